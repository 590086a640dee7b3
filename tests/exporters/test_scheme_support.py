"""The table of schemes and runtimes: every cell that is said to be tested is run here."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from exporters.onnx_exporter import OPSET
from exporters.onnx_weights import OPSETS, store_weights
from exporters.scheme_support import (
    ROUNDS_INPUTS,
    RUNS_AT_2_BITS,
    SCHEME_SUPPORT,
    TESTED,
    TO_FLOAT32_AT_EXPORT,
    TO_FLOAT32_AT_LOAD,
    UNPACKS_AT_LOAD,
    SchemeSupport,
)
from mobile_multimodal.backends.torch_backend import load_modules, round_inputs
from mobile_multimodal.bundle import ModelBundle, save_directory
from mobile_multimodal.numerics import sqnr_db
from mobile_multimodal.quantized_tensor import InputGrid, QuantizedTensor
from mobile_multimodal.weight_files import write_weights
from quantization.quantize import quantize_bundle
from quantization.recipe import QuantizationRecipe, QuantizationRule
from tests.exporters.graphs_in_memory import (
    PLACES,
    Place,
    float_model,
    is_spoken_of,
    optimized_graphs,
    random_tensor,
)

SAME_DB = 100
"""Two float32 computations that differ in the order of their sums agree better than this."""
ROUNDED_DB = 35
"""And one whose activations are rounded to 8 bits agrees better than this with one whose are not."""
GRID = InputGrid(1 / 32, 120)
"""A power of two: no runtime rounds a value the other way."""


@dataclass(frozen=True)
class Ran:
    """A weight in a graph that ONNX Runtime ran: the file, the graph in memory, and two results."""

    tensor: QuantizedTensor
    stored: onnx.ModelProto
    optimized: onnx.ModelProto
    expected: np.ndarray
    found: np.ndarray

    @property
    def ops(self) -> Counter[str]:
        return Counter(node.op_type for node in self.optimized.graph.node)

    def sizes(self, kind: int) -> list[int]:
        """How many numbers of this type each initializer in memory holds."""
        return [math.prod(t.dims) for t in self.optimized.graph.initializer if t.data_type == kind]


def run_everywhere(row: SchemeSupport, folder: Path) -> Iterator[tuple[Place, Ran]]:
    """The weight in every place that the row speaks of; expected is the float computation."""
    scheme = row.stored_as.scheme
    assert scheme is not None
    rng = np.random.default_rng(2)
    for place in PLACES[row.weights]:
        looked_up = place.op == "Gather"
        if looked_up and row.stored_as.rounds_inputs:
            continue  # it reads whole numbers
        tensor = random_tensor(place, scheme)
        weight = tensor.dequantize()
        model = float_model(place, weight.T if place.turned else weight, OPSETS.get(scheme.bits, OPSET))
        x = rng.integers(0, 128, place.data) if looked_up else rng.normal(size=place.data).astype(np.float32)
        read = x
        if row.stored_as.rounds_inputs:
            tensor = replace(tensor, input_grid=GRID)
            read = (GRID.quantize(x).astype(np.float32) - GRID.zero_point) * np.float32(GRID.scale)
        expected = ReferenceEvaluator(model).run(None, {"x": read})[0]
        store_weights(model, {"weight": tensor})
        onnx.save_model(model, folder / "model.onnx")
        backend, graphs = optimized_graphs({"model": folder / "model.onnx"}, folder)
        found = backend.run("model", {"x": x})["y"]
        yield place, Ran(tensor, model, graphs["model"], expected, found)


def onnx_unpacks(row: SchemeSupport, request: pytest.FixtureRequest, folder: Path) -> None:
    for place, ran in run_everywhere(row, folder):
        unpacked_in_memory(place, ran)
        assert not ran.ops.keys() & {"QuantizeLinear", "DequantizeLinear"}, place
        assert {t.data_type for t in ran.optimized.graph.initializer} == {TensorProto.FLOAT}, place


def onnx_rounds_inputs(row: SchemeSupport, request: pytest.FixtureRequest, folder: Path) -> None:
    for place, ran in run_everywhere(row, folder):
        unpacked_in_memory(place, ran)
        assert ran.ops["QuantizeLinear"] == ran.ops["DequantizeLinear"] == 1, place
        assert ran.sizes(TensorProto.UINT8) == [1], place  # the zero point


def unpacked_in_memory(place: Place, ran: Ran) -> None:
    packed = [len(t.raw_data) for t in ran.stored.graph.initializer]
    assert -(-math.prod(place.shape) * ran.tensor.scheme.bits // 8) in packed, place
    assert not ran.ops.keys() & {"MatMulNBits", "QLinearMatMul", "QLinearConv", "MatMulInteger", "Cast"}, (
        place
    )
    # Convolutions are laid out in blocks of channels, the last one filled up.
    assert max(ran.sizes(TensorProto.FLOAT)) >= math.prod(place.shape), place
    assert sqnr_db(ran.expected, ran.found) > SAME_DB, place


def onnx_runs_at_2_bits(row: SchemeSupport, request: pytest.FixtureRequest, folder: Path) -> None:
    for place, ran in run_everywhere(row, folder):
        assert [node.op_type for node in ran.optimized.graph.node] == ["MatMulNBits"], place
        attributes = {a.name: helper.get_attribute_value(a) for a in ran.optimized.graph.node[0].attribute}
        assert attributes["bits"] == 2, place
        assert ran.sizes(TensorProto.UINT8) == [math.prod(place.shape) // 4], place
        assert max(ran.sizes(TensorProto.FLOAT)) <= math.prod(place.shape) // 128, place
        # A kernel that unpacked the weight and multiplied in float would agree better.
        assert ROUNDED_DB < sqnr_db(ran.expected, ran.found) < SAME_DB, place


def onnx_holds_float32(row: SchemeSupport, request: pytest.FixtureRequest, folder: Path) -> None:
    bundle: ModelBundle = request.getfixturevalue("tiny_bundle")
    file = request.getfixturevalue("tiny_artifacts")["float32"] / "text_decoder.onnx"
    held = {
        numpy_helper.to_array(t).tobytes()
        for t in onnx.load(file).graph.initializer
        if t.data_type == TensorProto.FLOAT
    }
    weights = {name: x for name, x in bundle.stored_weights("text_decoder").items() if len(x.shape) == 2}
    assert weights
    for name, weight in weights.items():
        assert isinstance(weight, np.ndarray)
        assert weight.dtype == np.float16, name
        whole = weight.astype(np.float32)
        assert held & {whole.tobytes(), np.ascontiguousarray(whole.T).tobytes()}, name


def torch_unpacks(row: SchemeSupport, request: pytest.FixtureRequest, folder: Path) -> None:
    for layer, x in loaded_layers(row, request, folder):
        assert torch.equal(layer(x), layer.forward(x))


def torch_rounds_inputs(row: SchemeSupport, request: pytest.FixtureRequest, folder: Path) -> None:
    for layer, x in loaded_layers(row, request, folder):
        levels = GRID.quantize(x.numpy()).astype(np.float32) - GRID.zero_point
        # A module's forward knows nothing of what was hooked in ahead of it.
        assert torch.equal(layer(x), layer.forward(torch.from_numpy(levels * np.float32(GRID.scale))))
        assert not torch.equal(layer(x), layer.forward(x))


def loaded_layers(
    row: SchemeSupport, request: pytest.FixtureRequest, folder: Path
) -> list[tuple[torch.nn.Linear, torch.Tensor]]:
    """The decoder's linear layers as the torch backend has them, each with an input."""
    bundle = in_one_scheme(row, request, folder)
    if row.stored_as.rounds_inputs:
        bundle = with_grids(bundle, folder / "static")
    modules = loaded_as_dequantized(row, bundle)
    round_inputs(modules, bundle)
    layers = [x for x in modules["text_decoder"].modules() if isinstance(x, torch.nn.Linear)]
    assert layers
    seed = torch.Generator().manual_seed(1)
    return [(layer, torch.randn(3, layer.in_features, generator=seed)) for layer in layers]


def in_one_scheme(row: SchemeSupport, request: pytest.FixtureRequest, folder: Path) -> ModelBundle:
    recipe = QuantizationRecipe("one_scheme", (QuantizationRule("*", "*", row.stored_as.scheme),))
    return quantize_bundle(request.getfixturevalue("tiny_bundle"), recipe, folder / "bundle").bundle


def with_grids(bundle: ModelBundle, output: Path) -> ModelBundle:
    """The bundle with a grid for the inputs of every layer but embeddings."""
    contents: dict[str, Path | bytes] = {}
    for component in bundle.manifest.components:
        tensors = bundle.stored_weights(component.name)
        for name, tensor in tensors.items():
            if isinstance(tensor, QuantizedTensor) and "embedding" not in name:
                tensors[name] = replace(tensor, input_grid=GRID)
        contents[component.weights] = write_weights(tensors)
    return save_directory(
        output,
        contents,
        kind="bundle",
        target="torch",
        recipe="static",
        config=bundle.config,
        tokenizer=bundle.tokenizer,
        class_names=bundle.class_names,
        components=bundle.manifest.components,
        tool_versions={},
    )


def loaded_as_dequantized(row: SchemeSupport, bundle: ModelBundle) -> dict[str, torch.nn.Module]:
    modules = load_modules(bundle)
    looked_at = 0
    for component, module in modules.items():
        loaded = dict(module.named_parameters())
        for name, tensor in bundle.stored_weights(component).items():
            if not isinstance(tensor, QuantizedTensor) or not is_spoken_of(tensor.shape, row.weights):
                continue
            assert tensor.scheme == row.stored_as.scheme, name
            assert loaded[name].dtype == torch.float32, name
            assert np.array_equal(loaded[name].detach().numpy(), tensor.dequantize()), name
            looked_at += 1
    assert looked_at > 5
    return modules


def torch_holds_float32(row: SchemeSupport, request: pytest.FixtureRequest, folder: Path) -> None:
    bundle: ModelBundle = request.getfixturevalue("tiny_bundle")
    for component, module in load_modules(bundle).items():
        stored = bundle.stored_weights(component)
        for name, parameter in module.named_parameters():
            weight = stored[name]
            assert isinstance(weight, np.ndarray)
            assert (weight.dtype, parameter.dtype) == (np.float16, torch.float32), name
            assert np.array_equal(parameter.detach().numpy(), weight), name


Check = Callable[[SchemeSupport, pytest.FixtureRequest, Path], None]
CHECKS: dict[tuple[str, str], Check] = {
    ("torch", UNPACKS_AT_LOAD): torch_unpacks,
    ("torch", TO_FLOAT32_AT_LOAD): torch_holds_float32,
    ("torch", ROUNDS_INPUTS): torch_rounds_inputs,
    ("onnxruntime", UNPACKS_AT_LOAD): onnx_unpacks,
    ("onnxruntime", ROUNDS_INPUTS): onnx_rounds_inputs,
    ("onnxruntime", RUNS_AT_2_BITS): onnx_runs_at_2_bits,
    ("onnxruntime", TO_FLOAT32_AT_EXPORT): onnx_holds_float32,
}


@pytest.mark.parametrize(
    "row",
    [row for row in SCHEME_SUPPORT if row.checked == TESTED],
    ids=lambda row: f"{row.stored_as.name}-{row.weights}-{row.runtime}",
)
def test_a_cell_that_is_said_to_be_tested_is_true(
    row: SchemeSupport, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    CHECKS[row.runtime, row.behaviour](row, request, tmp_path)
