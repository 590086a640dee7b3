package mmllm

import androidx.test.ext.junit.runners.AndroidJUnit4
import androidx.test.platform.app.InstrumentationRegistry
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.math.abs
import org.json.JSONObject
import org.junit.After
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Test
import org.junit.runner.RunWith

/** The artifact in the test's assets, folder "mmllm", does on this phone what it did where it was made. */
@RunWith(AndroidJUnit4::class)
class GoldenTest {
    private lateinit var folder: File
    private lateinit var captioner: Captioner
    private lateinit var pictures: List<JSONObject>

    @Before
    fun open() {
        val context = InstrumentationRegistry.getInstrumentation()
        folder = File(context.targetContext.cacheDir, "mmllm")
        unpack(context.context.assets, "mmllm", folder)
        captioner = Captioner(folder)
        val rows = JSONObject(File(folder, "golden/golden.json").readText()).getJSONArray("pictures")
        pictures = List(rows.length()) { rows.getJSONObject(it) }
        assertTrue(pictures.isNotEmpty())
    }

    @After
    fun close() = captioner.close()

    @Test
    fun photosAreSquashedAsInTraining() = pictures.forEach { picture ->
        val photo = array(picture.getString("picture"))
        val (height, width) = photo.shape
        val squashed = squash(photo.bytes(), width, height, captioner.imageSize)
        val golden = pixels(picture)
        assertEquals(golden.size, squashed.size)
        // Each of the two axes may round the other way.
        val worst = golden.zip(squashed).maxOf { (a, b) -> abs((a.toInt() and 255) - (b.toInt() and 255)) }
        assertTrue("off by $worst of 255", worst <= 2)
    }

    @Test
    fun theEncoderGivesTheGoldenTensors() = pictures.forEach { picture ->
        val found = captioner.encode(pixels(picture))
        val outputs = tensors(picture, "outputs")
        assertEquals(outputs.keys().asSequence().toSet(), found.keys)
        for ((name, ours) in found) {
            val golden = array(outputs.getString(name)).floats()
            assertEquals(golden.size, ours.capacity())
            val worst = golden.indices.maxOf { abs(golden[it] - ours[it]) }
            assertTrue("$name is off by $worst", worst <= 1e-3f)
        }
    }

    @Test
    fun captionsHaveTheGoldenTokens() = pictures.forEach { picture ->
        val golden = picture.getJSONArray("token_ids")
        val ours = captioner.write(captioner.encode(pixels(picture)))
        assertEquals(List(golden.length()) { golden.getInt(it) }, ours)
    }

    private fun tensors(picture: JSONObject, kind: String): JSONObject =
        picture.getJSONObject("components").getJSONObject("vision_encoder").getJSONObject(kind)

    private fun pixels(picture: JSONObject): ByteArray =
        array(tensors(picture, "inputs").getString("pixel_values")).bytes()

    private fun array(name: String) = Npy(File(folder, "golden/$name").readBytes())

    private fun unpack(assets: android.content.res.AssetManager, path: String, target: File) {
        val inside = assets.list(path).orEmpty()
        if (inside.isEmpty()) {
            assets.open(path).use { input -> target.outputStream().use { input.copyTo(it) } }
        } else {
            target.mkdirs()
            inside.forEach { unpack(assets, "$path/$it", File(target, it)) }
        }
    }
}

/** An array of NumPy: six bytes, the version, the length of a header, the header, the numbers. */
class Npy(file: ByteArray) {
    private val header: String
    private val numbers: ByteBuffer

    init {
        val buffer = ByteBuffer.wrap(file).order(ByteOrder.LITTLE_ENDIAN)
        require(buffer[6].toInt() == 1) { "another version of the format" }
        val start = 10 + buffer.getShort(8)
        header = String(file, 10, start - 10)
        buffer.position(start)
        numbers = buffer.slice().order(ByteOrder.LITTLE_ENDIAN)
    }

    val shape: List<Int> =
        header.substringAfter("(").substringBefore(")").split(",").map { it.trim() }
            .filter { it.isNotEmpty() }.map { it.toInt() }

    fun bytes(): ByteArray = ByteArray(numbers.capacity()) { numbers[it] }.also { require("|u1" in header) }

    fun floats(): FloatArray {
        require("<f4" in header) { header }
        return FloatArray(numbers.capacity() / 4) { numbers.getFloat(4 * it) }
    }
}
