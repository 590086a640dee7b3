package mmllm

import java.io.File
import java.nio.Buffer
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.FloatBuffer
import java.nio.IntBuffer
import kotlin.math.exp
import org.json.JSONArray
import org.json.JSONObject
import org.tensorflow.lite.Interpreter

/** Added to the scores of what a token must not see. */
private const val MASKED = -1e4f
private const val MAX_TOKENS = 24
private const val PAGE = " that begins with"

/** Captions photos with a TFLite artifact that lies in [folder]. One caption at a time. */
class Captioner(folder: File, threads: Int = 2) : AutoCloseable {
    private val config = readJson(folder, "config.json")
    private val vision = config.getJSONObject("vision")
    private val text = config.getJSONObject("text")
    private val labels = File(folder, "class_names.txt").readLines()
    private val tokenizer = Tokenizer(readJson(folder, "tokenizer.json"))
    private val encoder = Component(folder, "vision_encoder", threads)
    private val decoder = Component(folder, "text_decoder", threads)

    /** The side of the square that the encoder takes; see [squash]. */
    val imageSize: Int = vision.getInt("image_size")

    /** One sentence about a photo: RGB bytes, [imageSize] x [imageSize] x 3. */
    fun caption(pixels: ByteArray): String {
        // What a page begins with is read by the text reader, which this example leaves out.
        val words = tokenizer.decode(write(encode(pixels))).removeSuffix(PAGE)
        return words.replaceFirstChar { it.uppercase() } + "."
    }

    /** What the encoder finds: keys and values [L, 1, H, M, d] for the decoder, class logits [1, names]. */
    fun encode(pixels: ByteArray): Map<String, FloatBuffer> {
        val buffer = ByteBuffer.allocateDirect(pixels.size).order(ByteOrder.nativeOrder()).put(pixels)
        buffer.rewind()
        return encoder.run("encode", mapOf("pixel_values" to buffer))
    }

    /** Reads the prompt, then writes the likeliest token again and again, until the end. */
    fun write(found: Map<String, FloatBuffer>): List<Int> {
        val image = listOf("image_key", "image_value").associateWith { found.getValue(it) }
        val prompt = buildPrompt(chooseNames(found.getValue("class_logits")))
        val room = decoder.prefillSizes.filter { it >= prompt.size }.min()
        val (_, _, _, cached, width) = decoder.shape("decode", "past_key") // [L, 1, H, T, d]
        val past = listOf("key", "value").associateWith { floats(decoder.size("decode", "past_$it")) }
        // The cache, then the new token itself, which always sees itself.
        val visible = BooleanArray(cached + 1) {
            it == cached || (it < prompt.size && prompt[it] != tokenizer.pad)
        }
        var new = decoder.run(
            "prefill_$room",
            image + mapOf(
                "input_ids" to ints(IntArray(room) { prompt.getOrElse(it) { tokenizer.pad } }),
                "position_ids" to ints(IntArray(room) { it }),
                "attention_mask" to mask(room * room) { it % room <= it / room && visible[it % room] },
            ),
        )
        var start = 0
        var stop = prompt.size
        val tokens = mutableListOf<Int>()
        while (tokens.size < MAX_TOKENS) {
            for ((part, cache) in past) {
                val steps = if (start == 0) room else 1
                keep(new.getValue("new_$part"), steps, cache, cached, start, stop, width)
            }
            val token = likeliest(new.getValue("logits"), stop - start - 1, mayEnd = tokens.isNotEmpty())
            if (token == tokenizer.end) break
            tokens += token
            new = decoder.run(
                "decode",
                image + mapOf(
                    "input_ids" to ints(intArrayOf(token)),
                    "position_ids" to ints(intArrayOf(stop)),
                    "attention_mask" to mask(cached + 1) { visible[it] },
                    "past_key" to past.getValue("key"),
                    "past_value" to past.getValue("value"),
                ),
            )
            visible[stop] = true
            start = stop++
        }
        return tokens
    }

    /** The likeliest classes, which exclude each other, then the likeliest caption words, which do not. */
    private fun chooseNames(logits: FloatBuffer): List<Int> {
        val count = vision.getInt("num_classes")
        val largest = (0 until count).maxOf { logits[it] }
        val odds = List(count) { exp(logits[it] - largest) }
        val sum = odds.sum()
        val words = List(logits.capacity() - count) { 1 / (1 + exp(-logits[count + it])) }
        return likely(odds.map { it / sum }, "num_class_names", "min_name_probability") +
            likely(words, "num_words", "min_word_probability").map { count + it }
    }

    private fun likely(chances: List<Float>, most: String, least: String): List<Int> =
        chances.indices.sortedByDescending { chances[it] }.take(text.getInt(most))
            .filter { chances[it] >= text.getDouble(least) }

    /** The tokens of the names that fit, padded to the slots, and the task. */
    private fun buildPrompt(names: List<Int>): List<Int> {
        val slots = text.getInt("num_name_slots")
        val prompt = mutableListOf<Int>()
        for (name in names) {
            val tokens = tokenizer.encode(labels[name])
            if (prompt.size + tokens.size > slots) break
            prompt += tokens
        }
        return prompt + List(slots - prompt.size) { tokenizer.pad } + tokenizer.caption
    }

    /** The best token of a row of the logits [1, S, vocabulary]; an empty text is no caption. */
    private fun likeliest(logits: FloatBuffer, row: Int, mayEnd: Boolean): Int {
        val vocabulary = text.getInt("vocab_size")
        return (0 until vocabulary)
            .filter { it !in tokenizer.special || (mayEnd && it == tokenizer.end) }
            .maxByOrNull { logits[row * vocabulary + it] }!!
    }

    override fun close() {
        encoder.close()
        decoder.close()
    }
}

/** One file of the artifact; its graphs of fixed sizes are signatures of a LiteRT interpreter. */
class Component(folder: File, name: String, threads: Int) : AutoCloseable {
    private val row = readJson(folder, "artifact.json").getJSONArray("components").objects()
        .first { it.getString("name") == name }
    private val interpreter = Interpreter(
        File(folder, row.getString("weights")),
        Interpreter.Options().apply { numThreads = threads },
    )
    private val graphs = row.getJSONArray("graphs").objects().associateBy { it.getString("name") }

    /** Prompt tokens of each graph "prefill_N". */
    val prefillSizes: List<Int> =
        graphs.keys.filter { it.startsWith("prefill_") }.map { it.substringAfter("_").toInt() }

    /** The sizes of a tensor, as artifact.json has them. */
    fun shape(graph: String, tensor: String): List<Int> {
        val spec = graphs.getValue(graph)
        val tensors = spec.getJSONArray("inputs").objects() + spec.getJSONArray("outputs").objects()
        val sizes = tensors.first { it.getString("name") == tensor }.getJSONArray("shape")
        return List(sizes.length()) { sizes.getInt(it) }
    }

    /** How many numbers a tensor holds. */
    fun size(graph: String, tensor: String): Int = shape(graph, tensor).reduce(Int::times)

    /** Runs one graph; inputs are direct buffers of its very sizes. */
    fun run(graph: String, inputs: Map<String, Buffer>): Map<String, FloatBuffer> {
        val outputs = graphs.getValue(graph).getJSONArray("outputs").objects().map { it.getString("name") }
            .associateWith { floats(size(graph, it)) }
        interpreter.runSignature(inputs, outputs, graph)
        outputs.values.forEach { it.rewind() }
        return outputs
    }

    override fun close() = interpreter.close()
}

/** New tokens [L, 1, H, steps, d], of which the first count, go into a cache [L, 1, H, cached, d]. */
private fun keep(
    new: FloatBuffer, steps: Int, cache: FloatBuffer, cached: Int, start: Int, stop: Int, width: Int,
) {
    for (head in 0 until new.capacity() / (steps * width)) {
        for (i in 0 until (stop - start) * width) {
            cache.put((head * cached + start) * width + i, new[head * steps * width + i])
        }
    }
}

private fun readJson(folder: File, name: String) = JSONObject(File(folder, name).readText())

private fun JSONArray.objects(): List<JSONObject> = List(length()) { getJSONObject(it) }

private fun direct(bytes: Int): ByteBuffer = ByteBuffer.allocateDirect(bytes).order(ByteOrder.nativeOrder())

private fun floats(size: Int): FloatBuffer = direct(4 * size).asFloatBuffer()

private fun ints(values: IntArray): IntBuffer =
    direct(4 * values.size).asIntBuffer().apply { put(values).rewind() }

private fun mask(size: Int, sees: (Int) -> Boolean): FloatBuffer =
    floats(size).apply { for (i in 0 until size) put(i, if (sees(i)) 0f else MASKED) }
