"""The recipe ``mixed``: never larger than asked, and widest where the pictures show that it matters."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from mobile_multimodal.bundle import ModelBundle
from mobile_multimodal.errors import UsageError
from mobile_multimodal.quantized_tensor import QuantizationScheme, QuantizedTensor
from quantization.calibration import InputStatistics
from quantization.mixed import assign_bits, mixed_recipe
from quantization.quantize import Prepared, quantize_bundle
from quantization.recipe import load_recipe
from quantization.sensitivity import (
    Candidate,
    WeightCandidates,
    empty_tensor,
    look_at_every_layer,
    measure_sensitivity,
    noise_to_signal,
)

MIB = 2**20
Statistics = dict[tuple[str, str], InputStatistics]


@pytest.fixture(scope="module")
def statistics(tiny_bundle: ModelBundle, tiny_pictures: tuple[Path, ...]) -> Statistics:
    return look_at_every_layer(tiny_bundle, tiny_pictures)


@pytest.fixture(scope="module")
def weights(tiny_bundle: ModelBundle, statistics: Statistics) -> tuple[WeightCandidates, ...]:
    return measure_sensitivity(tiny_bundle, statistics)


def smallest_mib(bundle: ModelBundle, weights: tuple[WeightCandidates, ...]) -> float:
    with pytest.raises(UsageError) as caught:
        assign_bits(bundle, weights, 1)
    [named] = re.findall(r"below the smallest possible size, ([\d.]+) MiB", caught.value.message)
    assert caught.value.remedy == f"give --target-size-mib {named} or more"
    return float(named)


def bytes_on_disk(bundle: ModelBundle) -> int:
    return sum(path.stat().st_size for path in bundle.directory.iterdir())


@pytest.mark.parametrize("mib", [2.2, 3.0, 4.7, "the smallest"])
def test_the_files_are_never_larger_than_asked(
    tiny_bundle: ModelBundle,
    statistics: Statistics,
    weights: tuple[WeightCandidates, ...],
    mib: float | str,
    tmp_path: Path,
) -> None:
    asked = mib if isinstance(mib, float) else smallest_mib(tiny_bundle, weights)
    plan = assign_bits(tiny_bundle, weights, int(asked * MIB))
    prepared = Prepared(statistics=statistics)
    small = quantize_bundle(tiny_bundle, plan.recipe, tmp_path / "q", prepared=prepared)
    assert bytes_on_disk(small.bundle) <= plan.predicted_bytes <= asked * MIB
    # What is predicted is close to what comes, and what was granted is used: a step of one weight is small.
    assert bytes_on_disk(small.bundle) > 0.995 * plan.predicted_bytes
    assert plan.predicted_bytes > 0.85 * asked * MIB
    assert small.bundle.recipe == plan.recipe.name == f"mixed_{asked:.2f}mib"
    assert {row.bits for row in small.report.tensors if row.kind} <= {2, 4, 8, 16}


def test_more_bytes_never_give_more_noise(
    tiny_bundle: ModelBundle, weights: tuple[WeightCandidates, ...]
) -> None:
    least = smallest_mib(tiny_bundle, weights)
    plans = [assign_bits(tiny_bundle, weights, int(mib * MIB)) for mib in np.linspace(least + 0.01, 6, 12)]
    noises = [plan.noise for plan in plans]
    assert noises == sorted(noises, reverse=True)
    assert noises[0] > 10 * noises[-1]
    sizes = [plan.predicted_bytes for plan in plans]
    assert sizes == sorted(sizes)


def test_a_budget_that_is_no_limit_gives_8_bits(
    tiny_bundle: ModelBundle, weights: tuple[WeightCandidates, ...]
) -> None:
    plan = assign_bits(tiny_bundle, weights, 100 * MIB)
    schemes = {rule.tensor: rule.scheme for rule in plan.recipe.rules}
    assert len(schemes) == len(weights)
    by_name = {weight.tensor: weight for weight in weights}
    # A few filters are so small that their scales and the line in the header outweigh what they save.
    for tensor, scheme in schemes.items():
        assert scheme == QuantizationScheme(8) or (
            scheme is None and np.prod(by_name[tensor].shape) < 1000
        ), tensor


def test_only_what_pictures_show_is_offered_2_bits(
    tiny_bundle: ModelBundle, statistics: Statistics, weights: tuple[WeightCandidates, ...]
) -> None:
    offered = {
        (weight.component, weight.tensor): {row.scheme.bits: row for row in weight.candidates if row.scheme}
        for weight in weights
    }
    two = {key for key, rows in offered.items() if 2 in rows}
    assert two <= statistics.keys()
    assert ("text_decoder", "layers.0.expand.weight") in two
    stem = offered["vision_encoder", "backbone.stem.weight"]
    assert (stem[4].algorithm, 2 in stem) == ("gptq", False)
    embedding = offered["text_decoder", "token_embedding.weight"]
    assert {bits: row.algorithm for bits, row in embedding.items()} == {8: "min_max", 4: "mse_clip"}
    depthwise = offered["vision_encoder", "backbone.blocks.8.depthwise.weight"]
    assert {row.algorithm for row in depthwise.values()} == {"mse_clip"}
    assert all(row.scheme is not None and row.scheme.group_size is None for row in depthwise.values())
    for weight in weights:
        noises, sizes = zip(*((row.noise, row.file_bytes) for row in weight.candidates), strict=True)
        assert list(noises) == sorted(set(noises)), weight.tensor
        assert list(sizes) == sorted(set(sizes), reverse=True), weight.tensor


def one_direction(direction: np.ndarray) -> InputStatistics:
    """Inputs that all lie along one direction, both ways."""
    return InputStatistics(np.outer(direction, direction).astype(np.float64), np.zeros(len(direction)), 100)


def test_the_weight_that_the_pictures_show_to_be_sensitive_keeps_more_bits(tiny_bundle: ModelBundle) -> None:
    """Of two like layers the one whose inputs it nearly cancels: rounding errors drown what is left."""
    keys = [("text_decoder", f"layers.{number}.expand.weight") for number in (0, 1)]
    ends = {}
    for key in keys:
        _, _, directions = np.linalg.svd(tiny_bundle.weights(key[0])[key[1]].astype(np.float64))
        ends[key] = one_direction(directions[-1]), one_direction(directions[0])
    for sensitive, other in (keys, keys[::-1]):
        shown = {sensitive: ends[sensitive][0], other: ends[other][1]}
        measured = [
            weight
            for weight in measure_sensitivity(tiny_bundle, shown)
            if (weight.component, weight.tensor) in keys
        ]
        whole = assign_bits(tiny_bundle, measured, 100 * MIB)
        plan = assign_bits(tiny_bundle, measured, whole.predicted_bytes - 1)
        bits = {rule.tensor: rule.scheme.bits for rule in plan.recipe.rules if rule.scheme}
        assert bits[sensitive[1]] == 8 > bits[other[1]]


def test_noise_is_measured_where_the_inputs_are() -> None:
    matrix = np.array([[3.0, 1.0], [0.0, 2.0]], np.float32)
    restored = np.array([[3.0, 0.0], [0.0, 2.0]], np.float32)
    assert noise_to_signal(matrix, restored, None) == pytest.approx(1 / 14)
    inputs = np.random.default_rng(0).normal(size=(500, 2)) * [1.0, 4.0] + [2.0, 0.5]
    seen = InputStatistics(inputs.T @ inputs / 500, inputs.mean(axis=0), 500)
    by_hand = np.square(inputs @ (matrix - restored).T).sum() / np.square(inputs @ matrix.T).sum()
    assert noise_to_signal(matrix, restored, seen) == pytest.approx(by_hand)
    # Inputs that are always zero show nothing, and the weight is all that there is to go by.
    nothing = InputStatistics(np.zeros((2, 2)), np.zeros(2), 500)
    assert noise_to_signal(matrix, restored, nothing) == pytest.approx(1 / 14)
    assert noise_to_signal(matrix * 0, matrix * 0, seen) == 0.0


def test_a_width_that_another_betters_is_passed_over(tiny_bundle: ModelBundle) -> None:
    """4 bits that cost nearly as much noise as 2 are never chosen."""
    shape = tiny_bundle.weights("text_decoder")["layers.0.expand.weight"].shape
    eight, four, two = (
        Candidate(scheme, "mse_clip", noise, empty_tensor(shape, 0, scheme).nbytes)
        for scheme, noise in (
            (QuantizationScheme(8), 0.0),
            (QuantizationScheme(4, "per_group", 32), 0.9),
            (QuantizationScheme(2, "per_group", 32), 1.0),
        )
    )
    weight = WeightCandidates("text_decoder", "layers.0.expand.weight", shape, 0, (eight, four, two))
    whole = assign_bits(tiny_bundle, [weight], 100 * MIB)
    plan = assign_bits(tiny_bundle, [weight], whole.predicted_bytes - 1)
    assert [rule.scheme for rule in plan.recipe.rules] == [two.scheme]
    assert plan.noise == 1.0


def test_an_empty_tensor_takes_the_bytes_of_a_full_one() -> None:
    for scheme in (QuantizationScheme(8), QuantizationScheme(2, "per_group", 32)):
        values = np.ones((5, 36), np.int8)
        full = QuantizedTensor.of(values, np.ones((5, scheme.groups(36))), scheme, (4, 5, 3, 3), 1)
        assert empty_tensor((4, 5, 3, 3), 1, scheme).nbytes == full.nbytes


def test_the_same_pictures_give_the_same_bytes(
    tiny_bundle: ModelBundle,
    tiny_pictures: tuple[Path, ...],
    statistics: Statistics,
    weights: tuple[WeightCandidates, ...],
    tmp_path: Path,
) -> None:
    """Also where the pictures are looked at anew, and where weights come in another order."""
    first = assign_bits(tiny_bundle, weights[::-1], int(2.5 * MIB)).recipe
    again = mixed_recipe(tiny_bundle, tiny_pictures, int(2.5 * MIB))
    assert first == again
    prepared = Prepared(statistics=statistics)
    one = quantize_bundle(tiny_bundle, first, tmp_path / "a", prepared=prepared).bundle
    two = quantize_bundle(tiny_bundle, again, tmp_path / "b", pictures=tiny_pictures).bundle
    assert one.sha256 == two.sha256


def test_a_quantized_bundle_is_refused_before_any_picture_is_opened(
    tiny_bundle: ModelBundle, tmp_path: Path
) -> None:
    small = quantize_bundle(tiny_bundle, load_recipe("int8"), tmp_path / "q").bundle
    with pytest.raises(UsageError, match="quantized already"):
        mixed_recipe(small, [tmp_path / "gone.png"], 10 * MIB)


def test_the_name_alone_is_no_recipe() -> None:
    with pytest.raises(UsageError, match=r"made for a size \(give --target-size-mib"):
        load_recipe("mixed")
