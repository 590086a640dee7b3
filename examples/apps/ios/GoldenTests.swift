import XCTest

@testable import CaptionExample

/// The artifact in the test bundle, folder "mmllm", does on this device what it did where it was made.
@available(iOS 18, macOS 15, *)
final class GoldenTests: XCTestCase {
    private struct Golden: Decodable {
        struct Picture: Decodable {
            let picture: String
            let tokenIds: [Int]
            let components: [String: Tensors]

            enum CodingKeys: String, CodingKey {
                case picture, components
                case tokenIds = "token_ids"
            }
        }

        struct Tensors: Decodable {
            let inputs, outputs: [String: String]
        }

        let pictures: [Picture]
    }

    private var folder: URL!
    private var captioner: Captioner!
    private var pictures: [Golden.Picture] = []

    override func setUp() async throws {
        folder = Bundle(for: GoldenTests.self).resourceURL!.appending(path: "mmllm")
        captioner = try await Captioner(folder: folder, units: .cpuOnly)
        let golden: Golden = try readJSON(folder.appending(path: "golden"), "golden.json")
        pictures = golden.pictures
        XCTAssertFalse(pictures.isEmpty)
    }

    func testPhotosAreSquashedAsInTraining() throws {
        for picture in pictures {
            let photo = try array(picture.picture)
            let (height, width) = (photo.shape[0], photo.shape[1])
            let squashed = try squash(photo.bytes(), width: width, height: height, side: captioner.imageSize)
            let golden = try pixels(picture)
            XCTAssertEqual(golden.count, squashed.count)
            // Each of the two axes may round the other way.
            let worst = zip(golden, squashed).map { abs(Int($0) - Int($1)) }.max()!
            XCTAssertLessThanOrEqual(worst, 2)
        }
    }

    func testTheEncoderGivesTheGoldenTensors() throws {
        for picture in pictures {
            let found = try captioner.encode(pixels(picture))
            let outputs = picture.components["vision_encoder"]!.outputs
            XCTAssertEqual(Set(outputs.keys), Set(found.keys))
            for (name, file) in outputs {
                let golden = try array(file).floats()
                XCTAssertEqual(golden.count, found[name]!.count)
                let worst = zip(golden, found[name]!).map { abs($0 - $1) }.max()!
                XCTAssertLessThanOrEqual(worst, 1e-3, name)
            }
        }
    }

    func testCaptionsHaveTheGoldenTokens() throws {
        for picture in pictures {
            XCTAssertEqual(picture.tokenIds, try captioner.write(captioner.encode(pixels(picture))))
        }
    }

    private func pixels(_ picture: Golden.Picture) throws -> [UInt8] {
        try array(picture.components["vision_encoder"]!.inputs["pixel_values"]!).bytes()
    }

    private func array(_ name: String) throws -> Npy {
        try Npy(Data(contentsOf: folder.appending(path: "golden").appending(path: name)))
    }
}

/// An array of NumPy: six bytes, the version, the length of a header, the header, the numbers.
struct Npy {
    struct Unreadable: Error {
        let header: String
    }

    let shape: [Int]
    private let header: String
    private let numbers: [UInt8]

    init(_ file: Data) throws {
        let bytes = [UInt8](file)
        let start = 10 + Int(bytes[8]) + 256 * Int(bytes[9])
        header = String(decoding: bytes[10..<start], as: UTF8.self)
        numbers = Array(bytes[start...])
        guard bytes[6] == 1, let open = header.firstIndex(of: "("), let close = header.firstIndex(of: ")")
        else { throw Unreadable(header: header) }
        shape = header[open..<close].dropFirst().split(separator: ",")
            .compactMap { Int($0.trimmingCharacters(in: .whitespaces)) }
    }

    func bytes() throws -> [UInt8] {
        guard header.contains("|u1") else { throw Unreadable(header: header) }
        return numbers
    }

    func floats() throws -> [Float] {
        guard header.contains("<f4") else { throw Unreadable(header: header) }
        return numbers.withUnsafeBytes { raw in
            (0..<raw.count / 4).map { raw.loadUnaligned(fromByteOffset: 4 * $0, as: Float.self) }
        }
    }
}
