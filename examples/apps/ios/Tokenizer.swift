import Foundation

/// Class names → token ids → text, as tokenizer.json says: a lower-cased byte-level BPE.
struct Tokenizer {
    private struct File: Decodable {
        struct Token: Decodable {
            let id: Int
            let content: String
        }

        struct Model: Decodable {
            let vocab: [String: Int]
            let merges: [[String]]
        }

        let addedTokens: [Token]
        let model: Model

        enum CodingKeys: String, CodingKey {
            case addedTokens = "added_tokens"
            case model
        }
    }

    /// How byte-level tokenizers split text (Radford et al., GPT-2).
    private static let word = try! NSRegularExpression(
        pattern: #"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#
    )

    /// A printable letter for each byte: itself, or one behind the first 256.
    private static let letters: [Character] = {
        var next: UInt32 = 256
        return (0..<256).map { (byte: UInt32) -> Character in
            let printable = [33...126, 161...172, 174...255].contains { $0.contains(byte) }
            defer { next += printable ? 0 : 1 }
            return Character(UnicodeScalar(printable ? byte : next)!)
        }
    }()

    private static let bytes = Dictionary(
        uniqueKeysWithValues: letters.enumerated().map { ($0.element, UInt8($0.offset)) }
    )

    /// Tokens that mark places and are never written.
    let special: Set<Int>
    let pad, end, caption: Int
    private let vocabulary: [String: Int]
    private let pieces: [Int: String]
    private let ranks: [[String]: Int]

    init(file: URL) throws {
        let read = try JSONDecoder().decode(File.self, from: Data(contentsOf: file))
        vocabulary = read.model.vocab
        pieces = Dictionary(uniqueKeysWithValues: vocabulary.map { ($0.value, $0.key) })
        let merges = read.model.merges.enumerated()
        ranks = Dictionary(uniqueKeysWithValues: merges.map { ($0.element, $0.offset) })
        let markers = Dictionary(uniqueKeysWithValues: read.addedTokens.map { ($0.content, $0.id) })
        special = Set(markers.values)
        pad = markers["<pad>"]!
        end = markers["<end>"]!
        caption = markers["<caption>"]!
    }

    /// The token ids of a class name.
    func encode(_ text: String) -> [Int] {
        let normal = text.precomposedStringWithCompatibilityMapping.lowercased()
        let spaced = normal.hasPrefix(" ") ? normal : " " + normal
        let found = Self.word.matches(in: spaced, range: NSRange(spaced.startIndex..., in: spaced))
        return found.flatMap { merge(String(spaced[Range($0.range, in: spaced)!])) }.map { vocabulary[$0]! }
    }

    /// The text of token ids.
    func decode(_ ids: [Int]) -> String {
        let letters = ids.filter { !special.contains($0) }.flatMap { Array(pieces[$0]!) }
        return String(decoding: letters.map { Self.bytes[$0]! }, as: UTF8.self)
            .trimmingCharacters(in: .whitespacesAndNewlines)
    }

    /// Joins the bytes of a word, the pair that was learned first before others.
    private func merge(_ word: String) -> [String] {
        var parts = word.utf8.map { String(Self.letters[Int($0)]) }
        while true {
            let pairs = zip(parts, parts.dropFirst()).map { [$0, $1] }.filter { ranks[$0] != nil }
            guard let best = pairs.min(by: { ranks[$0]! < ranks[$1]! }) else { return parts }
            var joined: [String] = []
            var i = 0
            while i < parts.count {
                let pair = i + 1 < parts.count && [parts[i], parts[i + 1]] == best
                joined.append(pair ? best.joined() : parts[i])
                i += pair ? 2 : 1
            }
            parts = joined
        }
    }
}
