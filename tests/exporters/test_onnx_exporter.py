"""Quantized weights in ONNX: the bundle's numbers in every layout, the predicted error, and the bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from exporters.export import export_artifact
from exporters.onnx_weights import store_weights
from mobile_multimodal.backends.onnx_backend import OnnxBackend
from mobile_multimodal.bundle import ModelBundle, load_bundle
from mobile_multimodal.errors import UsageError
from mobile_multimodal.model import open_backend
from mobile_multimodal.numerics import sqnr_db
from mobile_multimodal.quantized_tensor import QuantizationScheme, QuantizedTensor
from quantization.quantize import quantize_bundle
from quantization.recipe import load_recipe

SCHEMES = (QuantizationScheme(8), QuantizationScheme(4), QuantizationScheme(4, "per_group", 32))


def quantized(shape: tuple[int, ...], axis: int, scheme: QuantizationScheme) -> QuantizedTensor:
    """A random tensor of this scheme."""
    rng = np.random.default_rng(1)
    columns = int(np.prod(shape)) // shape[axis]
    values = rng.integers(-scheme.largest, scheme.largest + 1, (shape[axis], columns)).astype(np.int8)
    scale = rng.uniform(0.01, 0.1, (shape[axis], scheme.groups(columns)))
    return QuantizedTensor.of(values, scale, scheme, shape, axis)


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
        [numpy_helper.from_array(np.ascontiguousarray(weight), "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@pytest.mark.parametrize(
    ("op", "shape", "axis", "turned", "data", "attributes"),
    [
        ("MatMul", (48, 80), 0, True, [2, 80], {}),
        ("Gemm", (48, 80), 0, True, [2, 80], {}),
        ("Gemm", (48, 80), 0, False, [2, 80], {"transB": 1}),
        ("Conv", (24, 8, 3, 3), 0, False, [1, 8, 9, 9], {}),
        ("Conv", (48, 1, 3, 3), 0, False, [1, 48, 9, 9], {"group": 48}),
        ("ConvTranspose", (8, 24, 2, 2), 1, False, [1, 8, 9, 9], {}),
        ("Gather", (64, 96), 0, False, [5], {}),
    ],
)
def test_onnx_runtime_computes_with_the_bundle_s_own_numbers(
    op: str,
    shape: tuple[int, ...],
    axis: int,
    turned: bool,
    data: list[int],
    attributes: dict[str, int],
    scheme: QuantizationScheme,
    tmp_path: Path,
) -> None:
    tensor = quantized(shape, axis, scheme)
    weight = tensor.dequantize()
    model = graph_with(op, weight.T if turned else weight, data, **attributes)
    inputs = {"x": np.random.default_rng(2).integers(0, 5, data)}
    if op != "Gather":
        inputs["x"] = inputs["x"].astype(np.float32)
    expected = ReferenceEvaluator(model).run(None, inputs)[0]
    store_weights(model, {"weight": tensor})
    held = {t.name: t for t in model.graph.initializer}
    assert "w" not in held
    assert len(held[f"w.int{scheme.bits}"].raw_data) == -(-weight.size * scheme.bits // 8)
    onnx.save_model(model, tmp_path / "model.onnx")
    # The backend's session settings: by default ONNX Runtime may round activations to 8 bits too.
    backend = OnnxBackend({"model": tmp_path / "model.onnx"}, 1)
    assert np.allclose(backend.run("model", inputs)["y"], expected, rtol=1e-5, atol=1e-4)


def test_a_weight_that_the_graph_does_not_hold_is_an_error() -> None:
    tensor = quantized((48, 80), 0, SCHEMES[0])
    model = graph_with("MatMul", tensor.dequantize().T * 2, [2, 80])
    with pytest.raises(ValueError, match=r"holds no weight decoder\.weight"):
        store_weights(model, {"decoder.weight": tensor})


def test_bits_that_the_operator_set_does_not_know_are_refused_by_name() -> None:
    tensor = quantized((48, 80), 0, QuantizationScheme(2))
    model = graph_with("MatMul", tensor.dequantize().T, [2, 80])
    with pytest.raises(ValueError, match=r"weight has 2 bits, which opset 23 does not know"):
        store_weights(model, {"weight": tensor})


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


@pytest.mark.parametrize(
    ("recipe", "least_db"), [("weight_only_wi8_afp32", 25), ("weight_only_wi4_g32_afp32", 8)]
)
def test_quantized_weights_stay_near_the_float_model(
    tiny_artifacts: dict[str, Path], recipe: str, least_db: float
) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    expected, found = (
        open_backend(load_bundle(tiny_artifacts[name]), "onnxruntime", 1).run(
            "vision_encoder", {"pixel_values": pixels}
        )
        for name in ("float32", recipe)
    )
    for name, wanted in expected.items():
        assert sqnr_db(wanted, found[name]) > least_db, name


@pytest.mark.parametrize("recipe", ["weight_only_wi8_afp32", "weight_only_wi4_g32_afp32"])
def test_the_artifact_says_what_the_quantized_bundle_says(
    tiny_bundle: ModelBundle,
    tiny_pictures: tuple[Path, ...],
    tiny_artifacts: dict[str, Path],
    tmp_path: Path,
    recipe: str,
) -> None:
    """The same weights under torch and under ONNX Runtime: only the order of sums differs."""
    output = tmp_path / "bundle"
    bundle = quantize_bundle(tiny_bundle, load_recipe(recipe), output, pictures=tiny_pictures).bundle
    pixels = np.random.default_rng(3).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    ours = open_backend(bundle, "torch", 1).run("vision_encoder", {"pixel_values": pixels})
    theirs = open_backend(load_bundle(tiny_artifacts[recipe]), "onnxruntime", 1).run(
        "vision_encoder", {"pixel_values": pixels}
    )
    for name, wanted in ours.items():
        assert sqnr_db(wanted, theirs[name]) > 90, name


def test_two_exports_are_equal_byte_for_byte(
    tiny_bundle: ModelBundle, tiny_artifacts: dict[str, Path], tmp_path: Path
) -> None:
    recipe = "weight_only_wi8_afp32"
    bundle = quantize_bundle(tiny_bundle, load_recipe(recipe), tmp_path / "bundle").bundle
    again = export_artifact(bundle, "onnx", tmp_path / "again")
    assert again.sha256 == load_bundle(tiny_artifacts[recipe]).sha256


def test_an_output_that_cannot_be_is_refused_before_any_work(
    tiny_bundle: ModelBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporters.conversion.load_module", lambda *_: pytest.fail("work was begun"))
    with pytest.raises(UsageError, match=r"exists .*--force"):
        export_artifact(tiny_bundle, "onnx", tmp_path)
    with pytest.raises(UsageError, match="is the bundle that is exported"):
        export_artifact(tiny_bundle, "onnx", tiny_bundle.directory / ".." / "bundle", force=True)
    assert load_bundle(tiny_bundle.directory).sha256 == tiny_bundle.sha256


def test_an_artifact_holds_no_path_of_the_machine(tiny_artifacts: dict[str, Path]) -> None:
    root = str(Path(__file__).resolve().parents[2]).encode()
    for path in tiny_artifacts["float32"].glob("*.onnx"):
        assert root not in path.read_bytes()
