package mmllm

import android.graphics.Bitmap
import android.graphics.Canvas
import android.graphics.Color
import kotlin.math.abs
import kotlin.math.max
import kotlin.math.min

/** An upright photo as [Captioner] takes it, on white where it is transparent. */
fun Bitmap.toPixels(side: Int): ByteArray {
    val opaque = Bitmap.createBitmap(width, height, Bitmap.Config.ARGB_8888)
    Canvas(opaque).apply { drawColor(Color.WHITE) }.drawBitmap(this, 0f, 0f, null)
    val colors = IntArray(width * height)
    opaque.getPixels(colors, 0, width, 0, 0, width, height)
    opaque.recycle()
    val rgb = ByteArray(3 * colors.size) { (colors[it / 3] shr (16 - 8 * (it % 3))).toByte() }
    return squash(rgb, width, height, side)
}

/** RGB bytes [height, width, 3] → [side, side, 3], smoothed as in training; createScaledBitmap is not. */
fun squash(rgb: ByteArray, width: Int, height: Int, side: Int): ByteArray =
    resample(resample(rgb, width, side, inner = 3), height, side, inner = 3 * side)

/** The middle axis of [outer, from, inner] in another size, by a triangle over the source pixels of each. */
private fun resample(source: ByteArray, from: Int, to: Int, inner: Int): ByteArray {
    val outer = source.size / (from * inner)
    val result = ByteArray(outer * to * inner)
    val scale = from.toDouble() / to
    val reach = max(scale, 1.0)
    for (i in 0 until to) {
        val center = (i + 0.5) * scale
        val first = max((center - reach + 0.5).toInt(), 0)
        val last = min((center + reach + 0.5).toInt(), from)
        val weights = DoubleArray(last - first) { max(0.0, 1 - abs(first + it + 0.5 - center) / reach) }
        val total = weights.sum()
        for (o in 0 until outer) for (n in 0 until inner) {
            var sum = 0.0
            for (k in weights.indices) {
                sum += weights[k] * (source[(o * from + first + k) * inner + n].toInt() and 255)
            }
            result[(o * to + i) * inner + n] = (sum / total + 0.5).toInt().toByte()
        }
    }
    return result
}
