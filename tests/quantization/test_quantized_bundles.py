"""Recipes, packing and quantized bundles: what is stored, how much of it, and what it stands for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

from mobile_multimodal.bundle import ModelBundle, load_bundle
from mobile_multimodal.errors import BundleError, UsageError
from mobile_multimodal.model import open_backend
from mobile_multimodal.numerics import cosine_similarity, max_abs_error, sqnr_db
from mobile_multimodal.quantized_tensor import (
    BITS,
    QuantizationScheme,
    QuantizedTensor,
    from_channels,
    pack,
    to_channels,
    unpack,
)
from mobile_multimodal.weight_files import read_weights, write_weights
from quantization.algorithms import ALGORITHMS
from quantization.quantize import Prepared, predict, quantize_bundle
from quantization.recipe import QuantizationRecipe, QuantizationRule, load_recipe, recipe_names

RECIPES = sorted(recipe_names())
ALL_IN_8_BITS = {"weight_only_wi8_afp32", "static_wi8_ai8"}
SCHEMES = (QuantizationScheme(2), QuantizationScheme(8), QuantizationScheme(4, "per_group", 32))


@given(st.sampled_from(BITS), st.integers(1, 5), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_what_is_packed_comes_back(bits: int, channels: int, columns: int, seed: int) -> None:
    largest = QuantizationScheme(bits).largest
    values = np.random.default_rng(seed).integers(-largest, largest + 1, (channels, columns)).astype(np.int8)
    packed = pack(values, bits)
    assert packed.shape == (channels, -(-columns * bits // 8))
    assert np.array_equal(unpack(packed, bits, columns), values)


def test_the_first_value_lies_in_the_lowest_bits() -> None:
    """The layout of ONNX Runtime's MatMulNBits, bit by bit."""
    assert pack(np.array([[-7, 7, 0]], np.int8), 4).tolist() == [[0xF1, 0x88]]
    assert pack(np.array([[-1, 0, 1, 1, -1]], np.int8), 2).tolist() == [[0b11111001, 0b10101001]]


@pytest.mark.parametrize(("shape", "axis"), [((3, 4), 0), ((3, 4), 1), ((5, 3, 2, 2), 0), ((3, 5, 2, 2), 1)])
def test_a_weight_as_rows_of_channels_and_back(shape: tuple[int, ...], axis: int) -> None:
    weight = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    matrix = to_channels(weight, axis)
    assert matrix.shape == (shape[axis], weight.size // shape[axis])
    assert np.array_equal(matrix[1], np.take(weight, 1, axis).ravel())
    assert np.array_equal(from_channels(matrix, shape, axis), weight)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_every_algorithm_gives_numbers_that_the_scheme_holds(
    algorithm: str, scheme: QuantizationScheme
) -> None:
    matrix = np.random.default_rng(0).normal(size=(24, 72)).astype(np.float32)
    matrix[3] = 0.0
    values, scale = ALGORITHMS[algorithm](matrix, scheme)
    assert np.abs(values).max() <= scheme.largest
    tensor = QuantizedTensor.of(values, scale, scheme, matrix.shape)
    restored = tensor.dequantize()
    assert not restored[3].any()
    # Two bits without clipping leave only the largest weights: worse than nothing, and not by much.
    least = {2: 5 if algorithm == "mse_clip" else -2, 4: 18, 8: 38}[scheme.bits]
    assert sqnr_db(matrix, restored) > least
    assert tensor.nbytes == scheme.stored_bytes(matrix.shape)


def test_min_max_errs_by_half_a_step_at_most() -> None:
    matrix = np.random.default_rng(1).normal(size=(16, 50)).astype(np.float32)
    values, scale = ALGORITHMS["min_max"](matrix, QuantizationScheme(8))
    assert np.all(np.abs(values * scale - matrix) <= scale * 0.5001)
    assert np.abs(values).max(axis=1).min() == 127


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_clipping_never_errs_more_than_not_clipping(scheme: QuantizationScheme) -> None:
    matrix = np.random.default_rng(2).standard_t(3, size=(32, 128)).astype(np.float32)
    noise = {}
    for name in ("min_max", "mse_clip"):
        values, scale = ALGORITHMS[name](matrix, scheme)
        restored = QuantizedTensor.of(values, scale, scheme, matrix.shape).dequantize()
        noise[name] = np.square(matrix - restored).sum(axis=1)
    assert np.all(noise["mse_clip"] <= noise["min_max"] * 1.0001)
    assert noise["mse_clip"].sum() < (0.95 if scheme.bits < 8 else 1.0) * noise["min_max"].sum()


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_file_alone_says_what_it_holds(
    tiny_bundle: ModelBundle, tiny_pictures: tuple[Path, ...], recipe: str, tmp_path: Path
) -> None:
    """Counted with safetensors and nothing of ours: bytes as predicted, bits as reported."""
    result = quantize_bundle(tiny_bundle, load_recipe(recipe), tmp_path / "q", pictures=tiny_pictures)
    predicted = {part.component: part for part in predict(tiny_bundle, load_recipe(recipe)).components}
    for part in result.report.components:
        path = result.bundle.directory / f"{part.component}.safetensors"
        with safe_open(path, framework="numpy") as file:
            held = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            schemes = json.loads(file.metadata()["quantized"])
        stored = sum(tensor.nbytes for tensor in held.values())
        assert stored == part.bytes_predicted == predicted[part.component].bytes_predicted
        # The rest is the header; a real model's is below 2 % (tiny weights, the same number of names).
        assert stored < part.file_bytes == path.stat().st_size
        packed = {name: row for name, row in schemes.items() if row["bits"] < 8}
        for name, row in packed.items():
            columns = np.prod(row["shape"]) // row["shape"][row["axis"]]
            assert held[f"{name}.packed"].shape == (row["shape"][row["axis"]], -(-columns * row["bits"] // 8))
        assert part.bits_per_weight == pytest.approx(8 * stored / part.size)
    assert bool(packed) == (recipe not in ALL_IN_8_BITS)


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_shipped_model_shrinks_as_predicted(recipe: str, tmp_path: Path) -> None:
    from mobile_multimodal.bundle import MODELS

    source = load_bundle(MODELS / "mmllm-base" / "bundle")
    # Sizes do not depend on what pictures show, and looking at them takes longer than all the rest.
    report = quantize_bundle(source, load_recipe(recipe), tmp_path / "q", prepared=Prepared()).report
    for part in report.components:
        assert part.bytes_predicted == pytest.approx(part.file_bytes, rel=0.03)
    assert report.bytes_after < (0.52 if recipe in ALL_IN_8_BITS else 0.30) * report.bytes_before


@pytest.mark.parametrize(
    ("recipe", "least_db"), [("weight_only_wi4_g32_afp32", 8), ("weight_only_wi8_afp32", 25)]
)
def test_torch_runs_a_quantized_bundle(
    tiny_bundle: ModelBundle,
    tiny_pictures: tuple[Path, ...],
    recipe: str,
    least_db: float,
    tmp_path: Path,
) -> None:
    small = quantize_bundle(tiny_bundle, load_recipe(recipe), tmp_path / "q", pictures=tiny_pictures).bundle
    pixels = np.random.default_rng(4).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    expected, found = (
        open_backend(bundle, "torch", 1).run("vision_encoder", {"pixel_values": pixels})
        for bundle in (tiny_bundle, small)
    )
    for name, wanted in expected.items():
        assert least_db < sqnr_db(wanted, found[name]) < 100, name


def test_two_runs_give_the_same_bytes(
    tiny_bundle: ModelBundle, tiny_pictures: tuple[Path, ...], tmp_path: Path
) -> None:
    first, second = (
        quantize_bundle(tiny_bundle, load_recipe("int4"), tmp_path / name, pictures=tiny_pictures).bundle
        for name in "ab"
    )
    assert first.sha256 == second.sha256


def test_a_quantized_bundle_is_not_quantized_again(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    small = quantize_bundle(tiny_bundle, load_recipe("int8"), tmp_path / "q").bundle
    with pytest.raises(UsageError, match=r"quantized already .*name the float16 bundle"):
        quantize_bundle(small, load_recipe("int4"), tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_an_artifact_is_not_quantized(tiny_artifacts: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is an artifact for onnx"):
        quantize_bundle(load_bundle(tiny_artifacts["float32"]), load_recipe("int8"), tmp_path / "q")


def test_outputs_are_refused_before_any_work(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"exists .*--force"):
        quantize_bundle(tiny_bundle, load_recipe("int8"), tmp_path)
    with pytest.raises(UsageError, match="is the bundle that is quantized"):
        quantize_bundle(tiny_bundle, load_recipe("int8"), tiny_bundle.directory, force=True)


RULE = {"component": "*", "tensor": "*", "bits": 8}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bots": 1}, r"key 'bots' is none of name, alias, summary"),
        ({"schema_version": 2}, r"schema_version 2 is not 1"),
        ({"rules": []}, r"no rules"),
        ({"rules": [{**RULE, "bit": 4}]}, r"rule 1: key 'bit' is none of component, tensor"),
        ({"rules": [RULE, {**RULE, "bits": 3}]}, r"rule 2: 3 bits are none of 2, 4, 8"),
        ({"rules": [{**RULE, "algorithm": "magic"}]}, r"rule 1: algorithm 'magic' is none of min_max"),
        ({"rules": [{**RULE, "kinds": ["conv"]}]}, r"rule 1: kind 'conv' is none of linear, pointwise"),
        ({"rules": [{**RULE, "granularity": "per_group"}]}, r"rule 1: group_size belongs to per_group"),
        ({"rules": [{**RULE, "granularity": "per_group", "group_size": 24}]}, r"24 is no power of two"),
        ({"rules": [{"component": "*", "bits": 8}]}, r"tensor is missing"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(change: dict[str, object], message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"schema_version": 1, "name": "mine", "rules": [RULE], **change}))
    with pytest.raises(UsageError, match=message) as caught:
        load_recipe(str(path))
    assert str(path) in str(caught.value)


def test_the_first_rule_that_matches_decides(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    keep = {"component": "text_decoder", "tensor": "token_embedding.*"}
    rules = [keep, {**RULE, "component": "text_*", "kinds": ["linear", "embedding"]}]
    path.write_text(json.dumps({"schema_version": 1, "name": "mine", "rules": rules}))
    rows = {row.tensor: row for row in predict(tiny_bundle, load_recipe(str(path))).tensors}
    assert rows["token_embedding.weight"].bits == 16
    assert rows["layers.0.expand.weight"].bits == 8
    assert rows["backbone.stem.weight"].bits == 16


def test_an_unknown_recipe_lists_the_known() -> None:
    with pytest.raises(
        UsageError, match=r"unknown recipe 'int9' .*weight_only_wi8_afp32 \(int8\), mixed, or"
    ):
        load_recipe("int9")


def test_a_rule_that_fits_nothing_is_an_error(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    typo = QuantizationRecipe("mine", (QuantizationRule("text_decodr", "*", QuantizationScheme(8)),))
    with pytest.raises(UsageError, match="no weight fits the rule text_decodr"):
        quantize_bundle(tiny_bundle, typo, tmp_path / "q")


def test_a_file_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    scheme = QuantizationScheme(4)
    tensor = QuantizedTensor.of(np.ones((4, 8), np.int8), np.ones((4, 1)), scheme, (4, 8))
    content = write_weights({"w": tensor})
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    read = read_weights(path)["w"]
    assert isinstance(read, QuantizedTensor)
    assert np.array_equal(read.dequantize(), tensor.dequantize())
    path.write_bytes(content.replace(b"[4, 8]", b"[4, 9]"))
    with pytest.raises(BundleError, match=r"w\.safetensors cannot be read: packed"):
        read_weights(path)


@pytest.mark.parametrize("measure", [sqnr_db, cosine_similarity, max_abs_error])
def test_missing_numbers_never_pass(measure: object) -> None:
    assert callable(measure)
    good = np.ones(3)
    for bad in (np.array([1.0, np.nan, 1.0]), np.ones(4), np.array([np.inf, 1, 1])):
        with pytest.raises(ValueError, match=r"not finite|differ"):
            measure(good, bad)
    with pytest.raises(ValueError, match="nothing to compare"):
        measure(np.zeros(0), np.zeros(0))


def test_known_distances() -> None:
    assert sqnr_db(np.array([1.0, 1.0]), np.array([1.1, 0.9])) == pytest.approx(20.0)
    assert sqnr_db(np.ones(2), np.ones(2)) == float("inf")
    assert cosine_similarity(np.array([1.0, 0.0]), np.array([1.0, 1.0])) == pytest.approx(0.5**0.5)
    assert max_abs_error(np.array([1.0, -2.0]), np.array([1.5, -2.0])) == pytest.approx(0.5)
