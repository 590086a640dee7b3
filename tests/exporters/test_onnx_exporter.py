"""8-bit weights in ONNX: the right axis, the predicted error and bytes, and nothing quantized by mistake."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters.onnx_exporter import export_onnx
from exporters.onnx_weights import quantize_weights, symmetric_int8
from mobile_multimodal.bundle import ModelBundle, load_bundle
from mobile_multimodal.errors import UsageError
from mobile_multimodal.model import open_backend


@pytest.mark.parametrize("axis", [0, 1])
def test_rounding_is_within_half_a_step(axis: int) -> None:
    weight = np.random.default_rng(0).normal(size=(40, 30)).astype(np.float32)
    weight[:, 3] *= 100
    quantized, scale = symmetric_int8(weight, axis)
    shape = (-1, 1) if axis == 0 else (1, -1)
    steps = np.broadcast_to(scale.reshape(shape), weight.shape)
    assert np.all(np.abs(quantized * steps - weight) <= steps * 0.5001)
    assert np.abs(quantized).max(axis=1 - axis).min() == 127


def test_a_channel_of_zeros_stays_zero() -> None:
    quantized, scale = symmetric_int8(np.zeros((2, 4), np.float32), 0)
    assert not quantized.any()
    assert np.all(scale == 1)


def graph_with(op: str, weight: np.ndarray, data: list[int], **attributes: object) -> onnx.ModelProto:
    """One node whose second input is the weight (first for Gather)."""
    order = ["w", "x"] if op == "Gather" else ["x", "w"]
    kind = TensorProto.INT64 if op == "Gather" else TensorProto.FLOAT
    node = helper.make_node(op, order, ["y"], **attributes)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", kind, data)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * weight.ndim)],
        [numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)


@pytest.mark.parametrize(
    ("op", "shape", "data", "attributes", "axis"),
    [
        ("MatMul", (32, 48), [2, 32], {}, 1),
        ("Gemm", (32, 48), [2, 32], {}, 1),
        ("Gemm", (48, 32), [2, 32], {"transB": 1}, 0),
        ("Conv", (24, 8, 3, 3), [1, 8, 9, 9], {}, 0),
        ("Conv", (48, 1, 3, 3), [1, 48, 9, 9], {"group": 48}, 0),
        ("ConvTranspose", (8, 24, 2, 2), [1, 8, 9, 9], {}, 1),
        ("Gather", (64, 16), [5], {}, 0),
    ],
)
def test_scales_belong_to_output_channels(
    op: str, shape: tuple[int, ...], data: list[int], attributes: dict[str, int], axis: int
) -> None:
    weight = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    model = graph_with(op, weight, data, **attributes)
    assert quantize_weights(model) == weight.size
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    assert stored["w.int8"].dtype == np.int8
    assert stored["w.scale"].shape == (shape[axis],)
    (node,) = [n for n in model.graph.node if n.op_type == "DequantizeLinear"]
    assert helper.get_attribute_value(node.attribute[0]) == axis


def test_small_and_shared_oddly_weights_stay_float() -> None:
    small = graph_with("MatMul", np.ones((4, 4), np.float32), [2, 4])
    assert quantize_weights(small) == 0
    first_operand = graph_with("MatMul", np.ones((32, 32), np.float32), [32, 32])
    first_operand.graph.node[0].input[:] = ["w", "x"]
    assert quantize_weights(first_operand) == 0


def test_the_artifact_is_whole_and_a_quarter_of_the_size(
    tiny_bundle: ModelBundle, tiny_artifacts: dict[str, Path]
) -> None:
    whole, small = (load_bundle(tiny_artifacts[r]) for r in ("float32", "weight_only_wi8_afp32"))
    assert small.manifest.bundle_sha256 == tiny_bundle.sha256
    assert (small.manifest.kind, small.manifest.target, small.recipe) == (
        "artifact",
        "onnx",
        "weight_only_wi8_afp32",
    )
    for component in small.manifest.components:
        before = whole.manifest.files[component.weights].bytes
        after = small.manifest.files[component.weights].bytes
        assert after < 0.33 * before, component.name


def test_8_bit_weights_stay_near_the_float_model(tiny_artifacts: dict[str, Path]) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    outputs = [
        open_backend(load_bundle(path), "onnxruntime", 1).run("vision_encoder", {"pixel_values": pixels})
        for path in tiny_artifacts.values()
    ]
    for name, expected in outputs[0].items():
        found = outputs[1][name]
        noise = np.square(found - expected).sum()
        assert 10 * np.log10(np.square(expected).sum() / noise) > 20, name


def test_two_exports_are_equal_byte_for_byte(
    tiny_bundle: ModelBundle, tiny_artifacts: dict[str, Path], tmp_path: Path
) -> None:
    again = export_onnx(tiny_bundle, tmp_path / "again", recipe="weight_only_wi8_afp32")
    assert again.sha256 == load_bundle(tiny_artifacts["weight_only_wi8_afp32"]).sha256


def test_an_unknown_recipe_lists_the_known(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown recipe 'int9' .*weight_only_wi8_afp32"):
        export_onnx(tiny_bundle, tmp_path / "x", recipe="int9")
    assert not (tmp_path / "x").exists()


def test_an_output_that_cannot_be_is_refused_before_any_work(
    tiny_bundle: ModelBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporters.onnx_exporter.load_modules", lambda bundle: pytest.fail("work was begun"))
    with pytest.raises(UsageError, match=r"exists .*--force"):
        export_onnx(tiny_bundle, tmp_path, recipe="float32")
    with pytest.raises(UsageError, match="is the bundle that is exported"):
        export_onnx(tiny_bundle, tiny_bundle.directory / ".." / "bundle", recipe="float32", force=True)
    assert load_bundle(tiny_bundle.directory).sha256 == tiny_bundle.sha256


def test_an_artifact_holds_no_path_of_the_machine(tiny_artifacts: dict[str, Path]) -> None:
    root = str(Path(__file__).resolve().parents[2]).encode()
    for path in tiny_artifacts["float32"].glob("*.onnx"):
        assert root not in path.read_bytes()
