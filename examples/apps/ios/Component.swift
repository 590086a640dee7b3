import CoreML
import Foundation

/// One package of the artifact. Graphs that read pixels alone are sizes of its one function; others are
/// functions that share their weights.
@available(iOS 18, macOS 15, *)
final class Component {
    private struct Artifact: Decodable {
        let components: [Row]
    }

    private struct Row: Decodable {
        let name, weights: String
        let graphs: [Graph]
    }

    private struct Graph: Decodable {
        let name: String
        let inputs, outputs: [Tensor]
    }

    private struct Tensor: Decodable {
        let name: String
        let shape: [Int]
    }

    /// Prompt tokens of each graph "prefill_N".
    let prefillSizes: [Int]
    private let graphs: [String: Graph]
    private let package: URL
    private let units: MLComputeUnits
    private var models: [String: MLModel] = [:]

    init(folder: URL, name: String, units: MLComputeUnits) async throws {
        self.units = units
        let artifact: Artifact = try readJSON(folder, "artifact.json")
        let row = artifact.components.first { $0.name == name }!
        graphs = Dictionary(uniqueKeysWithValues: row.graphs.map { ($0.name, $0) })
        prefillSizes = row.graphs.filter { $0.name.hasPrefix("prefill_") }.map { Int($0.name.dropFirst(8))! }
        // Compiling takes seconds: an app keeps what this returns and does it once.
        package = try await MLModel.compileModel(at: folder.appending(path: row.weights))
    }

    /// The sizes of a tensor, as artifact.json has them.
    func shape(_ graph: String, _ tensor: String) -> [Int] {
        let spec = graphs[graph]!
        return (spec.inputs + spec.outputs).first { $0.name == tensor }!.shape
    }

    /// Runs one graph; inputs and outputs are the numbers of each tensor, row by row.
    func run(_ graph: String, _ inputs: [String: [Float]]) throws -> [String: [Float]] {
        let model = try open(graph)
        var features: [String: MLFeatureValue] = [:]
        for (name, values) in inputs {
            let type = model.modelDescription.inputDescriptionsByName[name]!.multiArrayConstraint!.dataType
            let sizes = shape(graph, name).map { NSNumber(value: $0) }
            let array = try MLMultiArray(shape: sizes, dataType: type)
            if type == .int32 {
                array.withUnsafeMutableBufferPointer(ofType: Int32.self) { numbers, _ in
                    for i in values.indices { numbers[i] = Int32(values[i]) }
                }
            } else {
                array.withUnsafeMutableBufferPointer(ofType: Float.self) { numbers, _ in
                    for i in values.indices { numbers[i] = values[i] }
                }
            }
            features[name] = MLFeatureValue(multiArray: array)
        }
        let outputs = try model.prediction(from: MLDictionaryFeatureProvider(dictionary: features))
        return Dictionary(uniqueKeysWithValues: outputs.featureNames.map { name in
            // The rows of an output may lie apart; a shaped array closes them up.
            let array = outputs.featureValue(for: name)!.multiArrayValue!
            return (name, MLShapedArray<Float>(converting: array).scalars)
        })
    }

    private func open(_ graph: String) throws -> MLModel {
        if let opened = models[graph] { return opened }
        let configuration = MLModelConfiguration()
        configuration.computeUnits = units
        // A package with one function, for however many sizes, has no other than the default.
        let sizesOfOne = graphs.values.allSatisfy { $0.inputs.map(\.name) == ["pixel_values"] }
        if graphs.count > 1 && !sizesOfOne { configuration.functionName = graph }
        let opened = try MLModel(contentsOf: package, configuration: configuration)
        models[graph] = opened
        return opened
    }
}
