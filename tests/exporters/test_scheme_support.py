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
from ai_edge_litert import schema_py_generated as schema
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from exporters.onnx_exporter import OPSET
from exporters.onnx_weights import OPSETS, SMALLEST_HALF, store_halves, store_weights
from exporters.scheme_support import (
    ROUNDS_INPUTS,
    RUNS_AT_2_BITS,
    RUNS_AT_4_BITS,
    SCHEME_SUPPORT,
    TESTED,
    TO_FLOAT32_AT_LOAD,
    UNPACKS_AT_LOAD,
    UNPACKS_AT_LOOKUP,
    SchemeSupport,
)
from exporters.tflite_graph import TfliteModel
from exporters.tflite_weights import store_weights as store_weights_tflite
from mobile_multimodal.backends.litert_backend import INTERPRETERS
from mobile_multimodal.backends.torch_backend import load_modules, round_inputs
from mobile_multimodal.bundle import ModelBundle, save_directory
from mobile_multimodal.numerics import sqnr_db
from mobile_multimodal.quantized_tensor import InputGrid, QuantizedTensor
from mobile_multimodal.weight_files import StoredTensor, write_weights
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
from tests.exporters.tflite_reading import OPERATOR_NAMES, converted

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


def onnx_widens_float16(row: SchemeSupport, request: pytest.FixtureRequest, folder: Path) -> None:
    rng = np.random.default_rng(3)
    for place in PLACES["every"]:
        if math.prod(place.shape) < SMALLEST_HALF:
            continue
        weight = rng.normal(size=place.shape).astype(np.float16).astype(np.float32)
        model = float_model(place, weight.T if place.turned else weight, OPSET)
        looked_up = place.op == "Gather"
        x = rng.integers(0, 128, place.data) if looked_up else rng.normal(size=place.data).astype(np.float32)
        expected = ReferenceEvaluator(model).run(None, {"x": x})[0]
        store_halves(model)
        assert [t.data_type for t in model.graph.initializer] == [TensorProto.FLOAT16], place
        onnx.save_model(model, folder / "model.onnx")
        backend, graphs = optimized_graphs({"model": folder / "model.onnx"}, folder)
        assert {t.data_type for t in graphs["model"].graph.initializer} == {TensorProto.FLOAT}, place
        assert "Cast" not in {node.op_type for node in graphs["model"].graph.node}, place
        assert sqnr_db(expected, backend.run("model", {"x": x})["y"]) > SAME_DB, place


@dataclass(frozen=True)
class LiteRtRan:
    """A layer whose weight a TFLite file holds: what is wanted of it, and what LiteRT gave."""

    layer: str
    kinds: tuple[str, ...]
    expected: np.ndarray
    found: np.ndarray


def litert_runs(row: SchemeSupport, folder: Path) -> Iterator[LiteRtRan]:
    """One layer of every kind that the row speaks of, converted, stored and run."""
    scheme, seed = row.stored_as.scheme, torch.Generator().manual_seed(6)
    told = {
        way.weights for way in SCHEME_SUPPORT if (way.stored_as, way.runtime) == (row.stored_as, "litert")
    }
    for name, layer, x, kind in litert_layers(seed):
        if row.weights not in ("every", kind if kind in told else "rest"):
            continue
        if row.stored_as.rounds_inputs and isinstance(layer, torch.nn.Embedding):
            continue
        tensors: dict[str, StoredTensor] = {}
        weight: np.ndarray = layer.weight.detach().numpy()
        if scheme is None:
            tensors["weight"] = weight.astype(np.float16)
            layer.weight.data = torch.from_numpy(tensors["weight"].astype(np.float32))
        else:
            axis = 1 if isinstance(layer, torch.nn.ConvTranspose2d) else 0
            tensor = random_tensor(Place("", tuple(weight.shape), [], axis), scheme)
            if row.stored_as.rounds_inputs:
                tensor = replace(tensor, input_grid=GRID)
            tensors["weight"] = tensor
            layer.weight.data = torch.from_numpy(tensor.dequantize())
        model = TfliteModel(converted(layer, x))
        store_weights_tflite(model, tensors)
        path = folder / f"{name}.tflite"
        path.write_bytes(model.to_bytes())
        read = x
        if row.stored_as.rounds_inputs:
            levels = GRID.quantize(x.numpy()).astype(np.float32) - GRID.zero_point
            read = torch.from_numpy(levels * np.float32(GRID.scale))
        expected = layer(read).detach().numpy()
        runner = INTERPRETERS["litert"]()(str(path), num_threads=1).get_signature_runner()
        (found,) = runner(args_0=x.numpy()).values()
        root = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
        kinds = [model.operator_kind(operator) for operator in root.subgraphs[0].operators]
        yield LiteRtRan(name, tuple(OPERATOR_NAMES[kind] for kind in kinds), expected, found)


def litert_layers(seed: torch.Generator) -> list[tuple[str, torch.nn.Module, torch.Tensor, str]]:
    """Name, layer, input, and in which of the table's words it is."""

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=seed)

    convolutions = [
        ("pointwise", torch.nn.Conv2d(64, 48, 1), "product"),
        ("convolution", torch.nn.Conv2d(64, 48, 3, padding=1), "rest"),
        ("depthwise", torch.nn.Conv2d(64, 64, 5, padding=2, groups=64), "rest"),
        ("transposed", torch.nn.ConvTranspose2d(64, 32, 2, stride=2), "rest"),
    ]
    return [
        ("linear", torch.nn.Linear(64, 48), draw(3, 64), "product"),
        ("embedding", torch.nn.Embedding(40, 64), torch.tensor([[3, 1, 39]], dtype=torch.int32), "lookup"),
        *((name, layer, draw(1, 64, 6, 6), kind) for name, layer, kind in convolutions),
    ]


def litert_unpacks(row: SchemeSupport, request: pytest.FixtureRequest, folder: Path) -> None:
    for ran in litert_runs(row, folder):
        assert "DEQUANTIZE" in ran.kinds, ran.layer
        assert sqnr_db(ran.expected, ran.found) > SAME_DB, ran.layer


def litert_rounds_inputs(row: SchemeSupport, request: pytest.FixtureRequest, folder: Path) -> None:
    for ran in litert_runs(row, folder):
        assert Counter(ran.kinds)["QUANTIZE"] == 1, ran.layer
        assert sqnr_db(ran.expected, ran.found) > SAME_DB, ran.layer


def litert_runs_packed(row: SchemeSupport, request: pytest.FixtureRequest, folder: Path) -> None:
    for ran in litert_runs(row, folder):
        assert "FULLY_CONNECTED" in ran.kinds, ran.layer
        assert "DEQUANTIZE" not in ran.kinds, ran.layer
        # A kernel that unpacked the weight and multiplied in float would agree better.
        assert ROUNDED_DB < sqnr_db(ran.expected, ran.found) < SAME_DB, ran.layer


def litert_looks_up(row: SchemeSupport, request: pytest.FixtureRequest, folder: Path) -> None:
    (ran,) = litert_runs(row, folder)
    assert "EMBEDDING_LOOKUP" in ran.kinds
    assert "DEQUANTIZE" not in ran.kinds
    assert np.array_equal(ran.expected, ran.found)


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
    ("onnxruntime", TO_FLOAT32_AT_LOAD): onnx_widens_float16,
    ("litert", UNPACKS_AT_LOAD): litert_unpacks,
    ("litert", TO_FLOAT32_AT_LOAD): litert_unpacks,
    ("litert", ROUNDS_INPUTS): litert_rounds_inputs,
    ("litert", UNPACKS_AT_LOOKUP): litert_looks_up,
    ("litert", RUNS_AT_2_BITS): litert_runs_packed,
    ("litert", RUNS_AT_4_BITS): litert_runs_packed,
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
