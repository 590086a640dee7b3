package mmllm

import java.text.Normalizer
import org.json.JSONArray
import org.json.JSONObject

/** Class names → token ids → text, as tokenizer.json says: a lower-cased byte-level BPE. */
class Tokenizer(json: JSONObject) {
    private val vocabulary: Map<String, Int>
    private val pieces: Map<Int, String>
    private val ranks: Map<Pair<String, String>, Int>

    /** Tokens that mark places and are never written. */
    val special: Set<Int>
    val pad: Int
    val end: Int
    val caption: Int

    init {
        val model = json.getJSONObject("model")
        val ids = model.getJSONObject("vocab")
        vocabulary = ids.keys().asSequence().associateWith { ids.getInt(it) }
        pieces = vocabulary.entries.associate { (piece, id) -> id to piece }
        val merges = model.getJSONArray("merges")
        ranks = (0 until merges.length()).associateBy { rank ->
            val pair: JSONArray = merges.getJSONArray(rank)
            pair.getString(0) to pair.getString(1)
        }
        val added = json.getJSONArray("added_tokens")
        val markers = (0 until added.length()).map { added.getJSONObject(it) }
            .associate { it.getString("content") to it.getInt("id") }
        special = markers.values.toSet()
        pad = markers.getValue("<pad>")
        end = markers.getValue("<end>")
        caption = markers.getValue("<caption>")
    }

    /** The token ids of a class name. */
    fun encode(text: String): List<Int> {
        val normal = Normalizer.normalize(text, Normalizer.Form.NFKC).lowercase()
        val spaced = if (normal.startsWith(" ")) normal else " $normal"
        return WORD.findAll(spaced).flatMap { merge(it.value) }.map { vocabulary.getValue(it) }.toList()
    }

    /** The text of token ids. */
    fun decode(ids: List<Int>): String {
        val letters = ids.filter { it !in special }.joinToString("") { pieces.getValue(it) }
        val bytes = ByteArray(letters.length) { BYTES.getValue(letters[it]).toByte() }
        return String(bytes, Charsets.UTF_8).trim()
    }

    /** Joins the bytes of a word, the pair that was learned first before others. */
    private fun merge(word: String): List<String> {
        var parts = word.toByteArray().map { LETTERS[it.toInt() and 255].toString() }
        while (true) {
            val known = parts.zipWithNext().filter { it in ranks }
            val best = known.minByOrNull { ranks.getValue(it) } ?: return parts
            val joined = mutableListOf<String>()
            var i = 0
            while (i < parts.size) {
                val pair = i + 1 < parts.size && parts[i] == best.first && parts[i + 1] == best.second
                joined += if (pair) best.first + best.second else parts[i]
                i += if (pair) 2 else 1
            }
            parts = joined
        }
    }

    private companion object {
        /** How byte-level tokenizers split text (Radford et al., GPT-2). */
        val WORD = Regex("""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+""")

        /** A printable letter for each byte: itself, or one behind the first 256. */
        val LETTERS: List<Char> = run {
            val printable = (33..126) + (161..172) + (174..255)
            var next = 256
            List(256) { byte -> (if (byte in printable) byte else next++).toChar() }
        }
        val BYTES: Map<Char, Int> = LETTERS.withIndex().associate { (byte, letter) -> letter to byte }
    }
}
