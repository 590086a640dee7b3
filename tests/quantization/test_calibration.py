"""What layers see on pictures, rounding that makes use of it, and pictures that cannot be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mobile_multimodal.backends.torch_backend import load_modules
from mobile_multimodal.bundle import ModelBundle
from mobile_multimodal.errors import DataError, UsageError
from mobile_multimodal.networks.vision_encoder import SamePadConv
from mobile_multimodal.numerics import sqnr_db
from mobile_multimodal.quantized_tensor import QuantizationScheme, QuantizedTensor
from quantization import calibration
from quantization.algorithms import ALGORITHMS, CALIBRATED
from quantization.algorithms.gptq import gptq
from quantization.calibration import FEWEST_PICTURES, InputStatistics, calibrate, find_pictures
from quantization.quantize import Prepared, prepare, quantize_bundle
from quantization.recipe import QuantizationRecipe, QuantizationRule, load_recipe
from tests.tiny import write_tiny_pictures

LINEAR = ("text_decoder", "layers.0.expand.weight")
STEM = ("vision_encoder", "backbone.stem.weight")
GROUPS_4, GROUPS_2 = (QuantizationScheme(bits, "per_group", 32) for bits in (4, 2))


class Recorder:
    """Lets calibration work on networks whose layers write down what they read and give, by weight."""

    def __init__(self, bundle: ModelBundle, *keys: tuple[str, str]) -> None:
        self.modules = load_modules(bundle)
        self.read: dict[tuple[str, str], list[torch.Tensor]] = {key: [] for key in keys}
        self.gave: dict[tuple[str, str], list[torch.Tensor]] = {key: [] for key in keys}
        for key in keys:
            self.layer(key).register_forward_hook(self._hook(key))

    def layer(self, key: tuple[str, str]) -> nn.Module:
        return self.modules[key[0]].get_submodule(key[1].removesuffix(".weight"))

    def rows(self, key: tuple[str, str]) -> tuple[np.ndarray, np.ndarray]:
        """What a linear layer read and gave: [positions, columns], [positions, channels]."""
        read, gave = (torch.cat([x.flatten(0, -2) for x in side[key]]) for side in (self.read, self.gave))
        return read.double().numpy(), gave.double().numpy()

    def _hook(self, key: tuple[str, str]) -> Any:
        def hook(_: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            self.read[key].append(inputs[0].clone())
            self.gave[key].append(output.clone())

        return hook


def numbers(parameter: Any) -> np.ndarray:
    values: np.ndarray = parameter.detach().double().numpy()
    return values.reshape(len(values), -1) if values.ndim > 1 else values


def test_statistics_of_a_linear_layer_are_those_of_the_rows_that_it_read(
    tiny_bundle: ModelBundle, tiny_pictures: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(tiny_bundle, LINEAR)
    monkeypatch.setattr(calibration, "load_modules", lambda bundle: recorder.modules)
    found = calibrate(tiny_bundle, [LINEAR], tiny_pictures[:3])
    rows, _ = recorder.rows(LINEAR)
    assert found.keys() == {LINEAR}
    seen = found[LINEAR]
    assert seen.count == len(rows) > 10
    assert np.allclose(seen.mean, rows.mean(axis=0), atol=1e-5)
    assert np.allclose(seen.moment, rows.T @ rows / len(rows), atol=1e-5)
    assert np.allclose(seen.covariance, np.cov(rows.T, bias=True), atol=1e-5)


def test_statistics_of_a_convolution_with_uneven_padding_explain_its_outputs(
    tiny_bundle: ModelBundle, tiny_pictures: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """W · rows are the layer's own outputs: in the mean and in the second moment, over every position."""
    recorder = Recorder(tiny_bundle, STEM)
    layer = recorder.layer(STEM)
    assert isinstance(layer, SamePadConv)
    assert layer.extra
    monkeypatch.setattr(calibration, "load_modules", lambda bundle: recorder.modules)
    monkeypatch.setattr(calibration, "POSITIONS", 10**6)
    seen = calibrate(tiny_bundle, [STEM], tiny_pictures[:3])[STEM]
    weight = numbers(layer.weight)
    gave = torch.cat(recorder.gave[STEM]).double().movedim(1, -1).flatten(0, -2).numpy()
    gave -= numbers(layer.bias)
    assert seen.count == len(gave) == 3 * 32 * 32
    assert np.allclose(weight @ seen.mean, gave.mean(axis=0), atol=1e-5)
    assert np.allclose(weight @ seen.moment @ weight.T, gave.T @ gave / len(gave), atol=1e-4)
    # By hand: the row and the column of zeros lie below and to the right.
    x = torch.cat(recorder.read[STEM]).double().numpy()
    padded = np.pad(x, ((0, 0), (0, 0), (0, 1), (0, 1)))
    patches = [
        padded[:, :, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].reshape(3, -1)
        for i in range(32)
        for j in range(32)
    ]
    rows = np.concatenate(patches)
    assert np.allclose(seen.moment, rows.T @ rows / len(rows), atol=1e-9)


def test_a_sample_of_positions_does_not_depend_on_what_else_is_wanted(
    tiny_bundle: ModelBundle, tiny_pictures: tuple[Path, ...]
) -> None:
    later = ("vision_encoder", "backbone.blocks.1.expand.weight")
    alone = calibrate(tiny_bundle, [later], tiny_pictures[:2])[later]
    beside = calibrate(tiny_bundle, [STEM, later], tiny_pictures[:2])[later]
    assert alone.count == beside.count == 2 * calibration.POSITIONS
    assert np.array_equal(alone.moment, beside.moment)
    other = calibrate(tiny_bundle, [later], tiny_pictures[:2], seed=1)[later]
    assert not np.array_equal(alone.moment, other.moment)


def test_embeddings_and_depthwise_filters_have_no_statistics(
    tiny_bundle: ModelBundle, tiny_pictures: tuple[Path, ...]
) -> None:
    wanted = [
        ("text_decoder", "token_embedding.weight"),
        ("vision_encoder", "backbone.blocks.1.depthwise.weight"),
    ]
    steps: list[tuple[int, int]] = []
    progress = lambda done, total: steps.append((done, total))  # noqa: E731
    assert calibrate(tiny_bundle, wanted, tiny_pictures[:2], progress=progress) == {}
    assert steps == [(1, 2), (2, 2)]


def test_pictures_that_cannot_be_read_are_named_and_skipped(tmp_path: Path) -> None:
    good = write_tiny_pictures(tmp_path, count=FEWEST_PICTURES + 2)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "broken.jpg").write_bytes(b"no picture")
    (tmp_path / "cut.png").write_bytes(good[0].read_bytes()[:60])
    (tmp_path / "notes.txt").write_text("no picture, and none that is meant to be")
    found = find_pictures(tmp_path, 100)
    assert found.good == good
    assert found.broken.keys() == {str(Path("a") / "broken.jpg"), "cut.png"}
    assert all("no picture" not in reason for reason in found.broken.values())
    assert find_pictures(tmp_path, FEWEST_PICTURES).good == good[:FEWEST_PICTURES]


def test_too_few_good_pictures_are_counted(tmp_path: Path) -> None:
    write_tiny_pictures(tmp_path, count=FEWEST_PICTURES - 1)
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(
        DataError,
        match=r"holds 31 good pictures and 1 that cannot be read \(broken\.jpg\) \(.* at least 32\)",
    ):
        find_pictures(tmp_path, 64)


def test_an_empty_folder_and_none_at_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds 0 good pictures \(calibration needs at least 32\)"):
        find_pictures(tmp_path, 64)
    with pytest.raises(DataError, match=r"is no folder \(name a folder of pictures"):
        find_pictures(tmp_path / "gone", 64)


def correlated(columns: int) -> np.ndarray:
    """The moment of inputs that mostly move together, as activations do."""
    rng = np.random.default_rng(5)
    few = rng.normal(size=(2000, columns // 4)) @ rng.normal(size=(columns // 4, columns))
    inputs = few + 0.3 * rng.normal(size=(2000, columns))
    moment: np.ndarray = inputs.T @ inputs / len(inputs)
    return moment


def lost_power(matrix: np.ndarray, values: np.ndarray, scale: np.ndarray, moment: np.ndarray) -> float:
    error = matrix - values * np.repeat(scale, 32, axis=1)[:, : matrix.shape[1]]
    return float(np.trace(error @ moment @ error.T))


@pytest.mark.parametrize("scheme", [GROUPS_4, GROUPS_2], ids=str)
def test_gptq_loses_less_of_correlated_inputs_than_rounding_alone(scheme: QuantizationScheme) -> None:
    matrix = np.random.default_rng(6).normal(size=(48, 144)).astype(np.float32)
    moment = correlated(144)
    plain = lost_power(matrix, *ALGORITHMS["mse_clip"](matrix, scheme), moment)
    values, scale = CALIBRATED["gptq"](matrix, scheme, moment)
    assert np.abs(values).max() <= scheme.largest
    assert scale.shape == (48, 5)
    assert lost_power(matrix, values, scale, moment) < 0.6 * plain


@pytest.mark.parametrize("scheme", [GROUPS_4, GROUPS_2], ids=str)
def test_gptq_of_inputs_that_show_nothing_is_rounding_alone(scheme: QuantizationScheme) -> None:
    matrix = np.random.default_rng(7).normal(size=(8, 64)).astype(np.float32)
    wanted, wanted_scale = ALGORITHMS["mse_clip"](matrix, scheme)
    for moment in (np.eye(64), np.zeros((64, 64))):
        values, scale = CALIBRATED["gptq"](matrix, scheme, moment)
        assert np.array_equal(values, wanted)
        assert np.array_equal(scale, wanted_scale)


@pytest.mark.parametrize("moment", [np.eye(63), np.full((64, 64), np.nan)])
def test_gptq_refuses_a_moment_that_cannot_be(moment: np.ndarray) -> None:
    with pytest.raises(ValueError, match="does not fit 64 columns, or is not finite"):
        CALIBRATED["gptq"](np.ones((4, 64), np.float32), GROUPS_4, moment)


def test_the_bias_gives_a_layer_its_mean_output_back(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    """What the weights lose in the mean over the pictures is what the bias gains, to float16's precision."""
    recipe = QuantizationRecipe("rough", (QuantizationRule(*LINEAR, GROUPS_2, "gptq"),))
    rng = np.random.default_rng(8)
    rows = rng.normal(size=(300, 128)) + rng.normal(size=128)
    seen = InputStatistics(rows.T @ rows / len(rows), rows.mean(axis=0), len(rows))
    prepared = Prepared(statistics={LINEAR: seen})
    small = quantize_bundle(tiny_bundle, recipe, tmp_path / "q", prepared=prepared).bundle
    means = []
    for bundle in (tiny_bundle, small):
        held = bundle.weights(LINEAR[0])
        weight, bias = (held[f"layers.0.expand.{part}"].astype(np.float64) for part in ("weight", "bias"))
        means.append((rows @ weight.T).mean(axis=0) + bias)
        uncorrected = (rows @ weight.T).mean(axis=0) + tiny_bundle.weights(LINEAR[0])["layers.0.expand.bias"]
    wanted, found = means
    assert np.abs(found - wanted).max() < 2e-3 * np.abs(wanted).max()
    assert np.abs(uncorrected - wanted).max() > 20 * np.abs(found - wanted).max()


def test_statistics_that_a_recipe_does_not_ask_for_change_nothing(
    tiny_bundle: ModelBundle, tmp_path: Path
) -> None:
    recipe = QuantizationRecipe("plain", (QuantizationRule(*LINEAR, GROUPS_4, "mse_clip"),))
    seen = InputStatistics(correlated(128), np.ones(128), 100)
    with_them = Prepared(statistics={LINEAR: seen})
    first = quantize_bundle(tiny_bundle, recipe, tmp_path / "a", prepared=with_them).bundle
    assert first.sha256 == quantize_bundle(tiny_bundle, recipe, tmp_path / "b").bundle.sha256


@pytest.mark.parametrize("recipe", ["int4", "int8-static"])
def test_a_calibrated_recipe_without_pictures_is_refused(
    tiny_bundle: ModelBundle, recipe: str, tmp_path: Path
) -> None:
    with pytest.raises(
        UsageError, match=r"is calibrated on pictures \(name a folder with --calibration-data"
    ):
        quantize_bundle(tiny_bundle, load_recipe(recipe), tmp_path / "q")
    assert not (tmp_path / "q").exists()


def test_a_recipe_that_asks_for_nothing_looks_at_no_picture(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    assert prepare(tiny_bundle, load_recipe("int8"), [tmp_path / "gone.png"]) == Prepared()


def test_inputs_that_hardly_vary_are_rounded_all_the_same() -> None:
    """Rounding of sums can leave a covariance with eigenvalues below zero."""
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(8, 32)).astype(np.float32)
    rough = rng.normal(scale=1e-6, size=(32, 32))
    scheme = QuantizationScheme(4, "per_group", 32)
    values, scale = gptq(matrix, scheme, np.eye(32) * 1e-9 + rough + rough.T)
    restored = QuantizedTensor.of(values, scale, scheme, matrix.shape).dequantize()
    assert sqnr_db(matrix, restored) > 10
