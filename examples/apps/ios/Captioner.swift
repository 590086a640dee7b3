import CoreML
import Foundation

/// Captions photos with a Core ML artifact of mmllm that lies in a folder. One caption at a time.
@available(iOS 18, macOS 15, *)
final class Captioner {
    private static let masked: Float = -1e4
    private static let maxTokens = 24
    private static let page = " that begins with"

    /// The side of the square that the encoder takes; see `squash`.
    let imageSize: Int
    private let config: Config
    private let labels: [String]
    private let tokenizer: Tokenizer
    private let encoder: Component
    private let decoder: Component

    init(folder: URL, units: MLComputeUnits = .all) async throws {
        config = try readJSON(folder, "config.json")
        imageSize = config.vision.imageSize
        labels = try String(contentsOf: folder.appending(path: "class_names.txt"), encoding: .utf8)
            .split(separator: "\n").map(String.init)
        tokenizer = try Tokenizer(file: folder.appending(path: "tokenizer.json"))
        encoder = try await Component(folder: folder, name: "vision_encoder", units: units)
        decoder = try await Component(folder: folder, name: "text_decoder", units: units)
    }

    /// One sentence about a photo: RGB bytes, imageSize x imageSize x 3.
    func caption(_ pixels: [UInt8]) throws -> String {
        var words = try tokenizer.decode(write(encode(pixels)))
        // What a page begins with is read by the text reader, which this example leaves out.
        if words.hasSuffix(Self.page) { words.removeLast(Self.page.count) }
        return words.prefix(1).uppercased() + String(words.dropFirst()) + "."
    }

    /// What the encoder finds: keys and values [L, 1, H, M, d] for the decoder, class logits [1, names].
    func encode(_ pixels: [UInt8]) throws -> [String: [Float]] {
        // Core ML has no input of bytes: pixels come as floats of 0...255.
        try encoder.run("encode", ["pixel_values": pixels.map(Float.init)])
    }

    /// Reads the prompt, then writes the likeliest token again and again, until the end.
    func write(_ found: [String: [Float]]) throws -> [Int] {
        let prompt = buildPrompt(chooseNames(found["class_logits"]!))
        let room = decoder.prefillSizes.filter { $0 >= prompt.count }.min()!
        let shape = decoder.shape("decode", "past_key") // [L, 1, H, T, d]
        let (cached, width) = (shape[3], shape[4])
        var pastKey = [Float](repeating: 0, count: shape.reduce(1, *))
        var pastValue = pastKey
        // The cache, then the new token itself, which always sees itself.
        var visible = (0...cached).map { $0 == cached || ($0 < prompt.count && prompt[$0] != tokenizer.pad) }

        var inputs = found.filter { $0.key != "class_logits" }
        inputs["input_ids"] = (0..<room).map { Float($0 < prompt.count ? prompt[$0] : tokenizer.pad) }
        inputs["position_ids"] = (0..<room).map { Float($0) }
        inputs["attention_mask"] = (0..<room * room).map { cell in
            let (row, column) = cell.quotientAndRemainder(dividingBy: room)
            return column <= row && visible[column] ? 0 : Self.masked
        }
        var new = try decoder.run("prefill_\(room)", inputs)
        var (start, stop, steps) = (0, prompt.count, room)
        var tokens: [Int] = []
        while tokens.count < Self.maxTokens {
            // [L, 1, H, steps, d], of which the first count, go into [L, 1, H, T, d].
            for head in 0..<pastKey.count / (cached * width) {
                let (from, to) = (head * steps * width, (head * cached + start) * width)
                for i in 0..<(stop - start) * width {
                    pastKey[to + i] = new["new_key"]![from + i]
                    pastValue[to + i] = new["new_value"]![from + i]
                }
            }
            let token = likeliest(new["logits"]!, row: stop - start - 1, mayEnd: !tokens.isEmpty)
            if token == tokenizer.end { break }
            tokens.append(token)
            inputs["input_ids"] = [Float(token)]
            inputs["position_ids"] = [Float(stop)]
            inputs["attention_mask"] = visible.map { $0 ? 0 : Self.masked }
            inputs["past_key"] = pastKey
            inputs["past_value"] = pastValue
            new = try decoder.run("decode", inputs)
            visible[stop] = true
            (start, stop, steps) = (stop, stop + 1, 1)
        }
        return tokens
    }

    /// The likeliest classes, which exclude each other, then the likeliest caption words, which do not.
    private func chooseNames(_ logits: [Float]) -> [Int] {
        let text = config.text
        let count = config.vision.numClasses
        let largest = logits[..<count].max()!
        let odds = logits[..<count].map { exp($0 - largest) }
        let sum = odds.reduce(0, +)
        let words = logits[count...].map { 1 / (1 + exp(-$0)) }
        return likely(odds.map { $0 / sum }, most: text.numClassNames, least: text.minNameProbability)
            + likely(words, most: text.numWords, least: text.minWordProbability).map { count + $0 }
    }

    private func likely(_ chances: [Float], most: Int, least: Double) -> [Int] {
        let order = chances.indices.sorted { (chances[$0], $1) > (chances[$1], $0) } // ties: the first one
        return order.prefix(most).filter { Double(chances[$0]) >= least }
    }

    /// The tokens of the names that fit, padded to the slots, and the task.
    private func buildPrompt(_ names: [Int]) -> [Int] {
        let slots = config.text.numNameSlots
        var prompt: [Int] = []
        for name in names {
            let tokens = tokenizer.encode(labels[name])
            if prompt.count + tokens.count > slots { break }
            prompt += tokens
        }
        return prompt + Array(repeating: tokenizer.pad, count: slots - prompt.count) + [tokenizer.caption]
    }

    /// The best token of a row of the logits [1, S, vocabulary]; an empty text is no caption.
    private func likeliest(_ logits: [Float], row: Int, mayEnd: Bool) -> Int {
        let vocabulary = config.text.vocabSize
        let allowed = (0..<vocabulary).filter {
            !tokenizer.special.contains($0) || (mayEnd && $0 == tokenizer.end)
        }
        return allowed.max { logits[row * vocabulary + $0] < logits[row * vocabulary + $1] }!
    }
}

/// The parts of config.json that a caption needs.
struct Config: Decodable {
    struct Vision: Decodable {
        let imageSize, numClasses: Int

        enum CodingKeys: String, CodingKey {
            case imageSize = "image_size"
            case numClasses = "num_classes"
        }
    }

    struct Text: Decodable {
        let vocabSize, numNameSlots, numClassNames, numWords: Int
        let minNameProbability, minWordProbability: Double

        enum CodingKeys: String, CodingKey {
            case vocabSize = "vocab_size"
            case numNameSlots = "num_name_slots"
            case numClassNames = "num_class_names"
            case numWords = "num_words"
            case minNameProbability = "min_name_probability"
            case minWordProbability = "min_word_probability"
        }
    }

    let vision: Vision
    let text: Text
}

func readJSON<T: Decodable>(_ folder: URL, _ name: String) throws -> T {
    try JSONDecoder().decode(T.self, from: Data(contentsOf: folder.appending(path: name)))
}
