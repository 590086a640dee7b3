"""Exported graphs as ONNX Runtime holds them: what is packed in memory, and what is not."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import onnxruntime
from onnx import TensorProto

from exporters.onnx_exporter import OPSET, capture
from exporters.onnx_weights import OPSETS, store_weights
from mobile_multimodal.backends.torch_backend import load_modules
from mobile_multimodal.bundle import ModelBundle
from mobile_multimodal.quantized_tensor import QuantizationScheme, QuantizedTensor
from quantization.quantize import quantize_bundle
from quantization.recipe import QuantizationRecipe, QuantizationRule
from tests.exporters.graphs_in_memory import (
    MATRICES,
    float_model,
    is_spoken_of,
    optimized_graphs,
    random_tensor,
)


def test_in_whole_graphs_only_matrices_of_2_bits_stay_packed(
    tiny_artifacts: dict[str, Path], tmp_path: Path
) -> None:
    for recipe, artifact in tiny_artifacts.items():
        files = {path.stem: path for path in artifact.glob("*.onnx")}
        assert files, recipe
        for component, model in optimized_graphs(files, tmp_path)[1].items():
            packed = {n.input[1] for n in model.graph.node if n.op_type == "MatMulNBits"}
            others = [t for t in model.graph.initializer if len(t.dims) > 1 and t.name not in packed]
            assert {t.data_type for t in others} == {TensorProto.FLOAT}, (recipe, component)


def test_in_a_whole_decoder_the_linear_layers_run_at_2_bits(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    scheme = QuantizationScheme(2)
    recipe = QuantizationRecipe(
        "two_bits", (QuantizationRule("text_decoder", "*", scheme, kinds=("linear",)),)
    )
    bundle = quantize_bundle(tiny_bundle, recipe, tmp_path / "bundle").bundle
    weights = bundle.stored_weights("text_decoder")
    quantized = {name: x for name, x in weights.items() if isinstance(x, QuantizedTensor)}
    model = capture("text_decoder", load_modules(bundle)["text_decoder"], bundle.config, OPSETS[2])
    store_weights(model, quantized)
    onnx.save_model(model, tmp_path / "text_decoder.onnx")
    _, graphs = optimized_graphs({"text_decoder": tmp_path / "text_decoder.onnx"}, tmp_path)
    ops = Counter(node.op_type for node in graphs["text_decoder"].graph.node)
    fitting = [name for name, x in quantized.items() if is_spoken_of(x.shape, "matrix")]
    assert ops["MatMulNBits"] == len(fitting) > 5
    assert ops["DequantizeLinear"] == 0


def test_the_look_into_memory_sees_what_stays_packed(tmp_path: Path) -> None:
    """Without the backend's settings ONNX Runtime unpacks at every call, and the file it keeps says so."""
    tensor = random_tensor(MATRICES[0], QuantizationScheme(8))
    model = float_model(MATRICES[0], tensor.dequantize().T, OPSET)
    store_weights(model, {"weight": tensor})
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "kept.onnx")
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    kept = onnx.load(tmp_path / "kept.onnx").graph
    assert {node.op_type for node in kept.node} & {"DequantizeLinear", "MatMulNBits"}
    assert {t.data_type for t in kept.initializer} & {TensorProto.INT8, TensorProto.UINT8}
