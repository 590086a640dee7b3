"""Core ML packages: the bundle's own numbers in every layout, what is refused, and the bytes."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor, nn
from torch.nn import functional

pytest.importorskip("coremltools")

from exporters.coreml_exporter import write_coreml
from exporters.coreml_package import StoredWeight, read_back
from mobile_multimodal.backends.mil_evaluator import MilProgram, load_program, package_parts, read_spec
from mobile_multimodal.errors import BundleError, UsageError
from mobile_multimodal.numerics import max_abs_error
from mobile_multimodal.quantized_tensor import InputGrid, QuantizationScheme, QuantizedTensor, to_channels
from tests.coreml_graphs import (
    INT2,
    INT4,
    INT4_G32,
    INT8,
    expected,
    graph_of,
    quantized,
    renamed,
    with_weight,
)

SHAPES = {
    "token.weight": ((50, 64), 0),
    "expand.weight": ((48, 16, 1, 1), 0),  # a group of 16 inputs
    "narrow.weight": ((40, 48, 1, 1), 0),  # the last group is shorter
    "window.weight": ((24, 40, 3, 3), 0),  # groups run across the window
    "back.weight": ((24, 16, 3, 3), 1),  # the same, with output channels along the second axis
    "deep.weight": ((16, 1, 5, 5), 0),  # depthwise: one group of 25
    "out.weight": ((64, 256), 0),
}


class EveryLayer(nn.Module):
    """All places that a weight can have in our networks, one behind the other.

    ``token`` is read twice, as in the decoder: rows are looked up, and the output is multiplied by it.
    """

    def __init__(self, tensors: dict[str, QuantizedTensor]) -> None:
        super().__init__()
        self.token = with_weight(nn.Embedding(50, 64), tensors["token.weight"])
        self.expand = with_weight(nn.Conv2d(16, 48, 1), tensors["expand.weight"])
        self.narrow = with_weight(nn.Conv2d(48, 40, 1), tensors["narrow.weight"])
        self.window = with_weight(nn.Conv2d(40, 24, 3, padding=1), tensors["window.weight"])
        self.deep = with_weight(nn.Conv2d(16, 16, 5, padding=2, groups=16), tensors["deep.weight"])
        self.back = with_weight(nn.ConvTranspose2d(24, 16, 3, padding=1), tensors["back.weight"])
        self.out = with_weight(nn.Linear(256, 64), tensors["out.weight"])

    def forward(self, ids: Tensor) -> Tensor:
        x = self.token(ids).reshape(1, 16, 4, 4)  # four tokens
        for layer in (self.expand, self.narrow, self.window, self.back, self.deep):
            x = functional.layer_norm(layer(x), [4, 4])  # so that float16 holds what comes
        x = self.out(x.reshape(1, 256))
        return functional.linear(x, self.token.weight)


def every_layer(scheme: QuantizationScheme) -> dict[str, QuantizedTensor]:
    return {name: quantized(shape, scheme, axis) for name, (shape, axis) in SHAPES.items()}


def whole(weight: StoredWeight) -> tuple[np.ndarray, np.ndarray]:
    """Levels and the scale of every one of them."""
    scale = weight.scale
    for axis, (size, blocks) in enumerate(zip(weight.levels.shape, scale.shape, strict=True)):
        scale = np.repeat(scale, size // blocks, axis)
    return weight.levels, scale


@pytest.mark.parametrize("precision", ["float16", "float32"])
@pytest.mark.parametrize("scheme", [INT8, INT4, INT4_G32, INT2], ids=str)
def test_a_package_holds_the_bundle_s_own_numbers_wherever_a_weight_stands(
    tmp_path: Path, scheme: QuantizationScheme, precision: str
) -> None:
    tensors = every_layer(scheme)
    graph = graph_of(EveryLayer(tensors), (4,), "int32")
    write_coreml([graph], tensors, tmp_path / "p.mlpackage", precision=precision)
    stored = read_back(tmp_path / "p.mlpackage")["main"]
    assert stored.keys() == {name.replace(".", "_") for name in tensors}
    for name, tensor in tensors.items():
        weight = stored[name.replace(".", "_")]
        levels, scales = whole(weight)
        if levels.shape == tensor.shape:
            levels, scales = to_channels(levels, tensor.axis), to_channels(scales, tensor.axis)
        assert np.array_equal(levels, tensor.values()), name
        assert np.array_equal(scales.astype(np.float32), tensor.scales()), name
        assert weight.palette == ((0, -1, 0, 1) if scheme.bits == 2 else None)
    inputs = {"x": np.array([3, 1, 4, 49], dtype=np.int32)}
    wanted = expected(graph, inputs)["y"]
    found = MilProgram(tmp_path / "p.mlpackage").run("main", inputs)["y"]
    error = max_abs_error(wanted, found) / np.abs(wanted).max()
    assert error < (1e-5 if precision == "float32" else 1e-2)


@pytest.mark.parametrize(("scheme", "bits"), [(INT8, 8), (INT4, 4), (INT4_G32, 4), (INT2, 2)], ids=str)
def test_weights_take_the_bytes_that_the_bundle_s_take(
    tmp_path: Path, scheme: QuantizationScheme, bits: int
) -> None:
    tensor = quantized((512, 512), scheme)
    graph = graph_of(with_weight(nn.Linear(512, 512, bias=False), tensor), (1, 512))
    # Two functions, and still the weight once.
    write_coreml([graph, renamed(graph, "again")], {"layer.weight": tensor}, tmp_path / "p.mlpackage")
    size = (package_parts(tmp_path / "p.mlpackage")[1] / "weight.bin").stat().st_size
    assert 512 * 512 * bits / 8 < size < 1.02 * tensor.nbytes
    assert sorted(read_back(tmp_path / "p.mlpackage")) == ["again", "only"]


def test_equal_constants_are_one_and_what_is_computed_has_short_names(tmp_path: Path) -> None:
    layers = nn.Sequential(*(nn.Conv2d(4, 4, 3, padding=1) for _ in range(3)), nn.ReLU())
    write_coreml([graph_of(layers, (1, 4, 8, 8))], {}, tmp_path / "p.mlpackage")
    [function] = load_program(
        tmp_path / "p.mlpackage", read_spec(tmp_path / "p.mlpackage")
    ).functions.values()
    convolutions = [op for op in function.operations if op.op_type == "conv"]
    assert len({op.inputs["weight"] for op in convolutions}) == 3
    for shared in ("strides", "pad", "dilations", "groups", "pad_type"):
        assert len({op.inputs[shared] for op in convolutions}) == 1, shared
    assert all(re.fullmatch("[a-z][0-9A-Z]+", op.name) for op in convolutions)


@pytest.mark.parametrize("precision", ["float16", "float32"])
def test_float16_weights_stay_float16(tmp_path: Path, precision: str) -> None:
    layer = nn.Linear(256, 256, bias=False).half().float()
    weight = layer.weight.detach().numpy().astype(np.float16)
    write_coreml(
        [graph_of(layer, (1, 256))], {"layer.weight": weight}, tmp_path / "p.mlpackage", precision=precision
    )
    size = (package_parts(tmp_path / "p.mlpackage")[1] / "weight.bin").stat().st_size
    assert weight.nbytes <= size < 1.02 * weight.nbytes


def test_a_weight_that_the_network_does_not_hold_is_an_error(tmp_path: Path) -> None:
    tensor = quantized((48, 64), INT8)
    graph = graph_of(nn.Linear(64, 48), (1, 64))
    with pytest.raises(UsageError, match=r"holds no weight decoder\.out\.weight"):
        write_coreml([graph], {"decoder.out.weight": tensor}, tmp_path / "p.mlpackage")
    assert not (tmp_path / "p.mlpackage").exists()


def test_groups_that_no_block_fits_are_refused_by_name(tmp_path: Path) -> None:
    tensor = quantized((8, 1, 7, 7), INT4_G32)
    graph = graph_of(with_weight(nn.Conv2d(8, 8, 7, groups=8), tensor), (1, 8, 9, 9))
    with pytest.raises(UsageError, match=r"deep\.weight \(8, 1, 7, 7\).* in groups of 32 without loss"):
        write_coreml([graph], {"deep.weight": tensor}, tmp_path / "p.mlpackage")


def test_ios_17_has_8_bits_by_channel_and_refuses_the_rest(tmp_path: Path) -> None:
    def write(scheme: QuantizationScheme, copies: int = 1) -> QuantizedTensor:
        tensor = quantized((24, 40, 3, 3), scheme)
        graph = graph_of(with_weight(nn.Conv2d(40, 24, 3), tensor), (1, 40, 5, 5))
        write_coreml(
            [graph] * copies, {"window.weight": tensor}, tmp_path / "p.mlpackage", deployment_target="iOS17"
        )
        return tensor

    with pytest.raises(UsageError, match=r"window\.weight: iOS 17 stores no 4 bits by channel .*iOS18"):
        write(INT4)
    with pytest.raises(UsageError, match=r"several functions \(only, only\) .*iOS18"):
        write(INT8, copies=2)
    tensor = write(INT8)
    stored = read_back(tmp_path / "p.mlpackage")["main"]["window_weight"]
    assert stored.operation == "constexpr_affine_dequantize"
    assert np.array_equal(to_channels(stored.levels, 0), tensor.values())
    assert read_spec(tmp_path / "p.mlpackage").specificationVersion == 8


@pytest.mark.parametrize("precision", ["float16", "float32"])
def test_inputs_are_rounded_to_the_bundle_s_grid(tmp_path: Path, precision: str) -> None:
    grid = InputGrid(0.03125, 100)
    tensor = dataclasses.replace(quantized((24, 40, 1, 1), INT8), input_grid=grid)
    layer = with_weight(nn.Conv2d(40, 24, 1), tensor)
    graph = graph_of(layer, (1, 40, 5, 5))
    write_coreml([graph], {"layer.weight": tensor}, tmp_path / "p.mlpackage", precision=precision)
    x = np.random.default_rng(0).normal(0, 3, (1, 40, 5, 5)).astype(np.float16).astype(np.float32)
    rounded = (grid.quantize(x).astype(np.float32) - grid.zero_point) * np.float32(grid.scale)
    found = MilProgram(tmp_path / "p.mlpackage").run("main", {"x": x})["y"]
    limit = 1e-4 if precision == "float32" else 0.02
    assert max_abs_error(expected(graph, {"x": rounded})["y"], found) < limit
    assert max_abs_error(expected(graph, {"x": x})["y"], found) > 10 * limit


def test_options_that_cannot_be_are_refused_before_any_work(tmp_path: Path) -> None:
    graph = graph_of(nn.ReLU(), (1, 4))
    with pytest.raises(UsageError, match="'iOS9' is none of iOS17, iOS18"):
        write_coreml([graph], {}, tmp_path / "p.mlpackage", deployment_target="iOS9")
    with pytest.raises(UsageError, match="'int8' is none of float16, float32"):
        write_coreml([graph], {}, tmp_path / "p.mlpackage", precision="int8")
    with pytest.raises(UsageError, match="only a component that reads pixels"):
        write_coreml([graph], {}, tmp_path / "p.mlpackage", image_input=True)
    (tmp_path / "p.mlpackage").mkdir()
    with pytest.raises(BundleError, match="exists"):
        write_coreml([graph], {}, tmp_path / "p.mlpackage")


def test_two_packages_are_equal_byte_for_byte_and_nothing_is_said(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tensor = quantized((48, 64), INT2)
    graph = graph_of(with_weight(nn.Linear(64, 48), tensor), (1, 64))
    contents = []
    for name in ("one", "two"):
        write_coreml([graph, renamed(graph, "second")], {"layer.weight": tensor}, tmp_path / name)
        files = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        contents.append({path.relative_to(tmp_path / name): path.read_bytes() for path in files})
    assert contents[0] == contents[1]
    assert len(contents[0]) == 3
    assert str(tmp_path).encode() not in b"".join(contents[0].values())
    assert capfd.readouterr() == ("", "")


def test_the_description_says_what_the_spec_says(tmp_path: Path) -> None:
    write_coreml([graph_of(nn.ReLU(), (1, 4, 2))], {}, tmp_path / "p.mlpackage")
    description = read_spec(tmp_path / "p.mlpackage").description
    for features, name in ((description.input, "x"), (description.output, "y")):
        (feature,) = features
        array = feature.type.multiArrayType
        assert (feature.name, list(array.shape)) == (name, [1, 4, 2])
        assert array.dataType == array.FLOAT32
