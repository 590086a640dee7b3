"""TFLite: the bundle's own numbers in the file, the same results as torch, the same bytes each time."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from exporters.export import export_artifact
from exporters.plain_math import PlainMath
from exporters.tflite_graph import Op, TfliteModel, Type
from exporters.tflite_weights import store_weights
from mobile_multimodal.backends.fixed_shapes import at_fixed_shapes
from mobile_multimodal.backends.torch_backend import open_torch_backend
from mobile_multimodal.bundle import MODELS, ModelBundle, load_bundle
from mobile_multimodal.errors import BundleError, MissingExtraError
from mobile_multimodal.fixed_sizes import FixedSizes, graph_specs
from mobile_multimodal.model import MobileMultiModalLLM, open_backend
from mobile_multimodal.numerics import cosine_similarity, max_abs_error
from mobile_multimodal.quantized_tensor import InputGrid, QuantizationScheme, QuantizedTensor
from quantization.quantize import quantize_bundle
from quantization.recipe import load_recipe
from tests.exporters.tflite_reading import converted, halves, quantized_constants

SIZES = FixedSizes()
Pairs = Mapping[str, tuple[ModelBundle, ModelBundle]]
"""Bundle and artifact by recipe."""


@pytest.fixture(scope="module")
def tiny_tflite(tiny_bundle: ModelBundle, tmp_path_factory: pytest.TempPathFactory) -> Pairs:
    """Bundle and artifact by recipe."""
    root = tmp_path_factory.mktemp("tflite")
    made = {"float16": (tiny_bundle, export_artifact(tiny_bundle, "tflite", root / "float16"))}
    for recipe in ("int8", "int2"):
        bundle = quantize_bundle(tiny_bundle, load_recipe(recipe), root / f"{recipe}_bundle").bundle
        made[recipe] = bundle, export_artifact(bundle, "tflite", root / recipe)
    return made


Outputs = Mapping[str, np.ndarray]


def both(
    bundle: ModelBundle, artifact: ModelBundle, component: str, inputs: Outputs
) -> tuple[Outputs, Outputs]:
    ours = at_fixed_shapes(open_torch_backend(bundle), graph_specs(bundle.config, SIZES))
    return ours.run(component, inputs), open_backend(artifact, "litert", 1).run(component, inputs)


@pytest.mark.parametrize(("recipe", "least_cosine"), [("float16", None), ("int8", None), ("int2", 0.99)])
def test_the_artifact_does_what_the_bundle_does(
    tiny_tflite: Pairs, recipe: str, least_cosine: float | None
) -> None:
    """Weights of 8 bits are computed with in float32; 2-bit matrices round activations on the way."""
    bundle, artifact = tiny_tflite[recipe]
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    ours, theirs = both(bundle, artifact, "vision_encoder", {"pixel_values": pixels})
    assert ours.keys() == theirs.keys()
    for name, expected in ours.items():
        if least_cosine is None:
            assert max_abs_error(expected, theirs[name]) < 1e-4, name
        else:
            assert cosine_similarity(expected, theirs[name]) > least_cosine, name
    if least_cosine is None:
        say = [
            MobileMultiModalLLM(artifact.directory, backend="litert"),
            MobileMultiModalLLM(bundle.directory, backend="torch"),
        ]
        for picture in pixels:
            captions = [model.generate_caption(picture) for model in say]
            answers = [model.answer_question(picture, "what color is the cat") for model in say]
            assert captions[0] == captions[1] != ""
            assert answers[0] == answers[1]


@pytest.mark.parametrize("recipe", ["int8", "int2"])
def test_the_file_holds_the_bundle_s_whole_numbers_and_scales(tiny_tflite: Pairs, recipe: str) -> None:
    bundle, artifact = tiny_tflite[recipe]
    compared = 0
    for component in ("vision_encoder", "text_decoder"):
        constants = quantized_constants(artifact.directory / f"{component}.tflite")
        held = {(c.bits, c.values.tobytes(), c.scales.tobytes()) for c in constants}
        for name, tensor in bundle.stored_weights(component).items():
            if not isinstance(tensor, QuantizedTensor):
                continue
            whole = tensor.values().reshape(tensor.shape)
            layouts = [(0, 2, 3, 1), (1, 2, 3, 0)] if whole.ndim == 4 else [(0, 1)]
            scales = tensor.scale.astype(np.float32).tobytes()
            written = {
                (tensor.scheme.bits, np.ascontiguousarray(whole.transpose(order)).tobytes(), scales)
                for order in layouts
            }
            assert written & held, name
            compared += 1
    assert compared > 50


def test_each_weight_is_stored_once_whatever_the_number_of_graphs(
    tiny_tflite: Pairs,
) -> None:
    for recipe, most in (("float16", 1.35), ("int8", 1.6)):
        bundle, artifact = tiny_tflite[recipe]
        stored = sum(x.nbytes for x in bundle.stored_weights("text_decoder").values())
        file = artifact.manifest.files["text_decoder.tflite"].bytes
        graphs = artifact.component("text_decoder").graphs
        assert [graph.name for graph in graphs] == ["prefill_32", "decode"]
        # What is not weights is the three graphs themselves.
        assert file - 25_000 * len(graphs) < most * stored


def test_what_graphs_have_in_common_is_written_once(tiny_tflite: Pairs) -> None:
    _, artifact = tiny_tflite["int2"]
    model = TfliteModel((artifact.directory / "text_decoder.tflite").read_bytes())
    assert len(model.graphs) == 2
    builder = flatbuffers.Builder()
    builder.Finish(model.root.Pack(builder))
    whole, written = len(builder.Output()), len(model.to_bytes())
    weights = sum(len(buffer.data) for buffer in model.root.buffers if buffer.data is not None)
    assert written - weights < 0.75 * (whole - weights), (written, whole, weights)
    # A buffer for each constant, and an empty one for all that is computed.
    assert [buffer.data is None or not len(buffer.data) for buffer in model.root.buffers].count(True) == 1


def test_float_weights_take_two_bytes_each(
    tiny_tflite: Pairs,
) -> None:
    bundle, artifact = tiny_tflite["float16"]
    held = {half.tobytes() for half in halves(artifact.directory / "text_decoder.tflite")}
    for name, weight in bundle.stored_weights("text_decoder").items():
        if weight.size >= 1024 and len(weight.shape) > 1:
            assert weight.tobytes() in held, name  # type: ignore[union-attr]


def test_a_second_export_is_equal_byte_for_byte_says_nothing_and_names_no_path_of_the_machine(
    tiny_tflite: Pairs, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bundle, artifact = tiny_tflite["int2"]
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        again = export_artifact(bundle, "tflite", tmp_path / "again")
    assert again.sha256 == artifact.sha256
    assert (out.getvalue(), err.getvalue()) == ("", "")
    assert capfd.readouterr() == ("", "")
    for path in artifact.directory.glob("*.tflite"):
        assert b"exporters" not in path.read_bytes()


def random_tensor(
    scheme: QuantizationScheme, shape: tuple[int, ...], axis: int = 0, grid: InputGrid | None = None
) -> QuantizedTensor:
    rng = np.random.default_rng(4)
    columns = int(np.prod(shape)) // shape[axis]
    values = rng.integers(-scheme.largest, scheme.largest + 1, (shape[axis], columns)).astype(np.int8)
    scale = rng.uniform(0.01, 0.1, (shape[axis], scheme.groups(columns)))
    tensor = QuantizedTensor.of(values, scale, scheme, shape, axis)
    return QuantizedTensor(tensor.packed, tensor.scale, scheme, shape, axis, grid)


class Layers(nn.Module):
    """A layer of every kind that has weights, one behind the other: [1, 8, 8, 32] → [1, 64, 64]."""

    def __init__(self, tensors: Mapping[str, QuantizedTensor]) -> None:
        super().__init__()
        self.entry = nn.Conv2d(32, 48, 3, padding=1)
        self.depthwise = nn.Conv2d(48, 48, 3, padding=1, groups=48)
        self.pointwise = nn.Conv2d(48, 64, 1)
        self.grow = nn.ConvTranspose2d(64, 32, 2, stride=2)
        self.linear = nn.Linear(32, 64)
        for name, tensor in tensors.items():
            layer = self.get_submodule(name.removesuffix(".weight"))
            layer.weight.data = torch.from_numpy(tensor.dequantize())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu6(self.entry(x.permute(0, 3, 1, 2)))
        x = functional.relu6(self.pointwise(self.depthwise(x)))
        return self.linear(self.grow(x).flatten(2).transpose(1, 2))


class InvertedBottleneck(nn.Module):
    """A block of the encoder: its last layer's output is added to its input."""

    def __init__(self, tensors: Mapping[str, QuantizedTensor]) -> None:
        super().__init__()
        self.entry = nn.Conv2d(32, 48, 1)
        self.depthwise = nn.Conv2d(48, 48, 3, padding=1, groups=48)
        self.last = nn.Conv2d(48, 32, 1)
        for name, tensor in tensors.items():
            self.get_parameter(name).data = torch.from_numpy(tensor.dequantize())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu6(self.depthwise(functional.relu6(self.entry(x))))
        return x + self.last(y)

    def rounded(self, x: torch.Tensor, grids: Mapping[str, InputGrid]) -> torch.Tensor:
        """The same with the inputs of every layer on its grid."""

        def grid(y: torch.Tensor, name: str) -> torch.Tensor:
            return torch.fake_quantize_per_tensor_affine(y, grids[name].scale, grids[name].zero_point, 0, 255)

        y = functional.relu6(self.entry(grid(x, "entry")))
        y = functional.relu6(self.depthwise(grid(y, "depthwise")))
        return x + self.last(grid(y, "last"))


SHAPES = {
    "entry.weight": ((48, 32, 3, 3), 0),
    "depthwise.weight": ((48, 1, 3, 3), 0),
    "pointwise.weight": ((64, 48, 1, 1), 0),
    "grow.weight": ((64, 32, 2, 2), 1),
    "linear.weight": ((64, 32), 0),
}


@pytest.mark.parametrize(
    ("scheme", "limit"),
    [
        (QuantizationScheme(8), 1e-4),
        (QuantizationScheme(4, "per_group", 16), 1e-4),
        # Products of 4 bits in groups of 32, or of a whole row, and of 2 bits, round their inputs to 8 bits.
        (QuantizationScheme(4), 2e-2),
        (QuantizationScheme(4, "per_group", 32), 2e-2),
        (QuantizationScheme(2), 2e-2),
    ],
    ids=str,
)
def test_every_kind_of_layer_computes_with_the_stored_numbers(
    scheme: QuantizationScheme, limit: float, tmp_path: Path
) -> None:
    from mobile_multimodal.backends.litert_backend import INTERPRETERS

    tensors = {name: random_tensor(scheme, shape, axis) for name, (shape, axis) in SHAPES.items()}
    module = Layers(tensors)
    x = torch.randn(1, 8, 8, 32, generator=torch.Generator().manual_seed(0))
    model = TfliteModel(converted(module, x))
    store_weights(model, tensors)
    (tmp_path / "m.tflite").write_bytes(model.to_bytes())
    runner = INTERPRETERS["litert"]()(str(tmp_path / "m.tflite"), num_threads=1).get_signature_runner()
    (found,) = runner(args_0=x.numpy()).values()
    expected = module(x).detach().numpy()
    assert np.abs(found - expected).max() / np.abs(expected).max() < limit
    # A wrong scale does not pass: the limit is tighter than what one channel's neighbour would do.
    rolled = {name: _rolled(tensor) for name, tensor in tensors.items()}
    wrong = Layers(rolled)(x).detach().numpy()
    assert np.abs(wrong - expected).max() / np.abs(expected).max() > 5 * limit


def _rolled(tensor: QuantizedTensor) -> QuantizedTensor:
    scale = np.roll(tensor.scale, 1, axis=0)
    return QuantizedTensor(tensor.packed, scale, tensor.scheme, tensor.shape, tensor.axis)


def test_inputs_that_the_bundle_rounds_are_rounded(tmp_path: Path) -> None:
    from mobile_multimodal.backends.litert_backend import INTERPRETERS

    grid = InputGrid(0.05, 120)
    tensor = random_tensor(QuantizationScheme(8), (64, 32), grid=grid)
    layer = nn.Linear(32, 64)
    layer.weight.data = torch.from_numpy(tensor.dequantize())
    x = torch.randn(3, 32, generator=torch.Generator().manual_seed(1))
    model = TfliteModel(converted(layer, x))
    store_weights(model, {"weight": tensor})
    (tmp_path / "m.tflite").write_bytes(model.to_bytes())
    runner = INTERPRETERS["litert"]()(str(tmp_path / "m.tflite"), num_threads=1).get_signature_runner()
    (found,) = runner(args_0=x.numpy()).values()
    rounded = torch.fake_quantize_per_tensor_affine(x, grid.scale, grid.zero_point, 0, 255)
    assert np.abs(found - layer(rounded).detach().numpy()).max() < 1e-4
    assert np.abs(found - layer(x).detach().numpy()).max() > 1e-2


def test_layers_between_two_roundings_compute_in_whole_numbers(tmp_path: Path) -> None:
    from mobile_multimodal.backends.litert_backend import INTERPRETERS

    grids = {"entry": InputGrid(0.03, 128), "depthwise": InputGrid(6 / 255, 0), "last": InputGrid(0.04, 100)}
    shapes = {"entry": (48, 32, 1, 1), "depthwise": (48, 1, 3, 3), "last": (32, 48, 1, 1)}
    tensors = {
        f"{name}.weight": random_tensor(QuantizationScheme(8), shape, grid=grids[name])
        for name, shape in shapes.items()
    }
    module = InvertedBottleneck(tensors)
    x = torch.randn(1, 32, 9, 9, generator=torch.Generator().manual_seed(2)).relu()
    model = TfliteModel(converted(module, x))
    store_weights(model, tensors)
    (tmp_path / "m.tflite").write_bytes(model.to_bytes())
    [graph] = model.graphs
    layers = [op for op in graph.operators if model.operator_kind(op) in (Op.CONV_2D, Op.DEPTHWISE_CONV_2D)]
    kinds = [[graph.tensors[index].type for index in (*op.inputs, *op.outputs)] for op in layers]
    # The last is read by the sum, in floats; its weights are widened once.
    integers = [Type.INT8, Type.INT8, Type.INT32, Type.INT8]
    assert kinds == [integers, integers, [Type.FLOAT32] * 4]
    runner = INTERPRETERS["litert"]()(str(tmp_path / "m.tflite"), num_threads=1).get_signature_runner()
    (found,) = runner(args_0=x.numpy()).values()
    expected = module.rounded(x, grids).detach().numpy()
    plain = module(x).detach().numpy()
    step = np.abs(found - expected)
    assert np.quantile(step, 0.99) < 0.25 * np.quantile(np.abs(plain - expected), 0.99)
    assert cosine_similarity(found, expected) > 0.9999


def test_a_weight_that_the_converter_merged_or_never_had_is_named() -> None:
    tensor = random_tensor(QuantizationScheme(8), (64, 32))
    layer = nn.Linear(32, 64)
    layer.weight.data = torch.from_numpy(tensor.dequantize()) * 2
    model = TfliteModel(converted(layer, torch.zeros(1, 32)))
    with pytest.raises(ValueError, match=r"holds no weight head\.weight"):
        store_weights(model, {"head.weight": tensor})


def test_plain_math_is_torch_s_own_to_the_last_digits() -> None:
    generator = torch.Generator().manual_seed(2)
    query, key, value = (torch.randn(2, 4, 6, 32, generator=generator) for _ in range(3))
    mask = torch.randn(2, 1, 6, 6, generator=generator)
    norm = nn.LayerNorm(32)
    norm.weight.data.uniform_(0.5, 1.5, generator=generator)
    x = torch.randn(2, 3, 40, 50, generator=generator)

    def everything() -> list[torch.Tensor]:
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return [attended, norm(query), x.mean((2, 3), keepdim=True), x.mean(1), x.mean()]

    expected = everything()
    with PlainMath():
        found = everything()
    for left, right in zip(expected, found, strict=True):
        assert left.shape == right.shape
        assert (left - right).abs().max() < 1e-5
    with PlainMath(), pytest.raises(NotImplementedError, match="is_causal"):
        functional.scaled_dot_product_attention(query, key, value, is_causal=True)


def test_a_file_that_is_cut_off_is_a_bundle_error(tiny_tflite: Pairs, tmp_path: Path) -> None:
    from mobile_multimodal.backends.litert_backend import open_litert_backend

    _, artifact = tiny_tflite["int8"]
    cut = tmp_path / "vision_encoder.tflite"
    cut.write_bytes((artifact.directory / "vision_encoder.tflite").read_bytes()[:5000])
    graphs = {"vision_encoder": artifact.component("vision_encoder").graphs}
    backend = open_litert_backend({"vision_encoder": cut}, graphs)
    with pytest.raises(BundleError, match=r"vision_encoder\.tflite: encode cannot be run"):
        backend.run("vision_encoder", {"pixel_values": np.zeros((1, 64, 64, 3), np.uint8)})


def test_without_the_converter_the_extra_is_named(
    tiny_bundle: ModelBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "litert_torch", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mmllm\[export\]'"):
        export_artifact(tiny_bundle, "tflite", tmp_path / "artifact")
    assert not (tmp_path / "artifact").exists()


def test_the_packaged_2_bit_captioner_keeps_every_level(tmp_path: Path) -> None:
    """Written from the float graph that the converter makes of the real model."""
    from exporters.export import export_bundle

    bundle = load_bundle(MODELS / "mmllm-base-int2" / "bundle")
    captioner = ("vision_encoder", "text_decoder")
    artifact = export_bundle(bundle, "tflite", tmp_path / "a", components=captioner, parity=False).bundle
    for component in captioner:
        held = [c for c in quantized_constants(artifact.directory / f"{component}.tflite") if c.bits == 2]
        wanted = [
            x
            for x in bundle.stored_weights(component).values()
            if isinstance(x, QuantizedTensor) and x.scheme.bits == 2
        ]
        assert {c.values.tobytes() for c in held} >= {x.values().tobytes() for x in wanted}
        assert len(wanted) > 20
        packed = sum(x.nbytes for x in bundle.stored_weights(component).values())
        assert artifact.manifest.files[f"{component}.tflite"].bytes < 1.25 * packed
