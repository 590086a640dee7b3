"""Grids for the inputs of layers: what each method keeps, and that models compute what integers would."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from exporters.onnx_weights import store_weights
from mobile_multimodal.backends.onnx_backend import OnnxBackend
from mobile_multimodal.bundle import ModelBundle
from mobile_multimodal.errors import UsageError
from mobile_multimodal.model import open_backend
from mobile_multimodal.numerics import sqnr_db
from mobile_multimodal.quantized_tensor import InputGrid, QuantizationScheme, QuantizedTensor
from quantization.input_grids import METHODS, ObservedInputs, fit_grid
from quantization.quantize import quantize_bundle
from quantization.recipe import load_recipe


def observed(values: np.ndarray) -> ObservedInputs:
    return ObservedInputs(values.astype(np.float32), float(values.min()), float(values.max()))


def rounded(values: np.ndarray, grid: InputGrid) -> np.ndarray:
    return (grid.quantize(values).astype(np.int32) - grid.zero_point) * np.float32(grid.scale)


@given(
    st.sampled_from(sorted(METHODS)),
    st.floats(-100, 100),
    st.floats(1e-3, 100),
    st.integers(0, 2**32 - 1),
)
def test_zero_is_a_level_and_numbers_inside_err_by_half_a_step(
    method: str, center: float, width: float, seed: int
) -> None:
    values = np.random.default_rng(seed).normal(center, width, 500)
    grid = fit_grid(observed(values), method)
    assert rounded(np.zeros(1), grid)[0] == 0
    found = rounded(values, grid)
    low, high = -grid.zero_point * grid.scale, (255 - grid.zero_point) * grid.scale
    inside = (values > low) & (values < high)
    assert np.all(np.abs(found - values)[inside] <= 0.501 * grid.scale + 1e-5 * np.abs(values[inside]))


def test_an_outlier_is_cut_off() -> None:
    values = np.append(np.random.default_rng(0).normal(size=40_000), 60.0)
    seen = observed(values)
    scales = {method: fit_grid(seen, method).scale for method in METHODS}
    assert scales["min_max"] == pytest.approx((60 - values.min()) / 255, rel=1e-6)
    assert scales["percentile"] < 0.2 * scales["min_max"]
    assert scales["mse"] < scales["min_max"]  # one number of forty thousand, and its error squared


def test_entropy_gives_up_a_thin_tail_for_finer_levels() -> None:
    seen = observed(np.random.default_rng(3).standard_t(3, 40_000))
    assert fit_grid(seen, "entropy").scale < 0.9 * fit_grid(seen, "min_max").scale


def test_least_squares_errs_least() -> None:
    values = np.random.default_rng(1).standard_t(3, 20_000)
    errors = {
        method: np.square(rounded(values, fit_grid(observed(values), method)) - values).mean()
        for method in METHODS
    }
    assert errors["mse"] <= min(errors["min_max"], errors["entropy"]) * 1.001


@pytest.mark.parametrize("values", [[], [np.nan], [1.0, np.inf]])
def test_numbers_that_are_none_fit_no_grid(values: list[float]) -> None:
    with pytest.raises(ValueError, match=r"no values|not finite"):
        ObservedInputs(np.array(values, np.float32), 0.0, 1.0)


@pytest.mark.parametrize(("scale", "zero"), [(0.0, 3), (-1.0, 3), (float("nan"), 3), (0.1, 256), (0.1, -1)])
def test_a_grid_that_is_none_is_refused(scale: float, zero: int) -> None:
    with pytest.raises(ValueError, match=r"input scale|zero point"):
        InputGrid(scale, zero)


@pytest.mark.parametrize("op", ["MatMul", "Conv"])
def test_the_runtime_computes_what_integers_would(op: str, tmp_path: Path) -> None:
    """Against whole numbers in numpy: values at both ends, where 16-bit kernels without VNNI saturate."""
    rng = np.random.default_rng(2)
    scheme, grid = QuantizationScheme(8), InputGrid(0.03125, 7)
    shape = (48, 64) if op == "MatMul" else (48, 64, 1, 1)
    q = rng.choice(np.array([-127, 127, 126, -3], np.int8), (48, 64))
    scale = rng.uniform(0.001, 0.01, (48, 1)).astype(np.float32)
    tensor = QuantizedTensor(q.view(np.uint8) ^ 0x80, scale, scheme, shape, 0, grid)
    assert np.array_equal(tensor.values(), q)
    weight = tensor.dequantize()
    data = [5, 64] if op == "MatMul" else [1, 64, 5, 1]
    graph = helper.make_graph(
        [helper.make_node(op, ["x", "w"], ["y"])],
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, data)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * len(data))],
        [numpy_helper.from_array(np.ascontiguousarray(weight.T if op == "MatMul" else weight), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)
    store_weights(model, {"w": tensor})
    onnx.save(model, tmp_path / "layer.onnx")
    x = rng.choice(np.array([-10, 0.1, 7.75, 20], np.float32), data)
    found = OnnxBackend({"layer": tmp_path / "layer.onnx"}, 1).run("layer", {"x": x})["y"]
    rows = x if op == "MatMul" else x[0, :, :, 0].T
    whole = (grid.quantize(rows).astype(np.int32) - grid.zero_point) @ q.astype(np.int32).T  # [5, 48]
    wanted = whole * (scale[:, 0] * np.float32(grid.scale))
    assert np.abs(whole).max() > 2**15
    assert np.allclose(found if op == "MatMul" else found[0, :, :, 0].T, wanted, rtol=1e-5, atol=1e-4)


def test_a_static_bundle_runs_rounded_and_keeps_its_grids(
    tiny_bundle: ModelBundle, tiny_pictures: tuple[Path, ...], tmp_path: Path
) -> None:
    recipe = load_recipe("int8-static")
    result = quantize_bundle(tiny_bundle, recipe, tmp_path / "q", pictures=tiny_pictures)
    layers = [row for row in result.report.tensors if row.kind and row.kind != "embedding"]
    assert layers
    assert {row.input_bits for row in layers} == {8}
    assert {row.input_bits for row in result.report.tensors if row not in layers} == {None}
    pixels = np.random.default_rng(4).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    weight_only = quantize_bundle(tiny_bundle, load_recipe("int8"), tmp_path / "w").bundle
    wanted, found, plain = (
        open_backend(bundle, "torch", 1).run("vision_encoder", {"pixel_values": pixels})["class_logits"]
        for bundle in (tiny_bundle, result.bundle, weight_only)
    )
    assert 10 < sqnr_db(wanted, found) < sqnr_db(wanted, plain)
    again = quantize_bundle(tiny_bundle, recipe, tmp_path / "again", pictures=tiny_pictures).bundle
    assert again.sha256 == result.bundle.sha256
    share = (
        result.report.bytes_after
        / quantize_bundle(tiny_bundle, load_recipe("int8"), tmp_path / "x").report.bytes_after
    )
    assert share < 1.1


def test_grids_need_pictures(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"calibrated on pictures .*--calibration-data"):
        quantize_bundle(tiny_bundle, load_recipe("int8-static"), tmp_path / "q")
    assert not (tmp_path / "q").exists()


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            {"kinds": ["embedding"], "method": "mse"},
            r"inputs 1: no runtime rounds the inputs of an embedding",
        ),
        ({"method": "guess"}, r"inputs 1: method 'guess' is none of min_max, percentile, mse, entropy"),
        ({"method": "mse", "bits": 4}, r"inputs 1: key 'bits' is none of component, tensor, method, kinds"),
        ({}, r"method is missing"),
    ],
)
def test_inputs_that_cannot_be_rounded_are_refused(
    rule: dict[str, object], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.json"
    weights = [{"component": "*", "tensor": "*", "bits": 8}]
    inputs = [{"component": "*", "tensor": "*", **rule}]
    document = {"schema_version": 1, "name": "mine", "rules": weights, "inputs": inputs}
    path.write_text(json.dumps(document))
    with pytest.raises(UsageError, match=message):
        load_recipe(str(path))
