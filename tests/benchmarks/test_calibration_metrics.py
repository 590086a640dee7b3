"""Calibration errors of distributions that are known, and a map that is found again."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.calibration_metrics import (
    brier_score,
    cross_fitted,
    expected_calibration_error,
    fit_logistic_map,
    reliability_bins,
)


def outcomes(chance: np.ndarray, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random(len(chance)) < chance).astype(np.float64)


def test_a_true_confidence_has_no_error_and_a_boast_has_its_own() -> None:
    chance = np.random.default_rng(1).uniform(0.05, 0.95, 20_000)
    right = outcomes(chance)
    assert expected_calibration_error(chance, right) < 0.015
    assert expected_calibration_error(np.full(4, 0.9), np.array([1.0, 0, 0, 1]), bins=1) == pytest.approx(0.4)
    assert brier_score(np.array([1.0, 0.5]), np.array([1.0, 1.0])) == pytest.approx(0.125)


def test_bins_hold_everyone_in_order() -> None:
    bins = reliability_bins(np.linspace(0, 1, 103), np.linspace(0, 1, 103))
    assert sum(part.count for part in bins) == 103
    assert [part.confidence for part in bins] == sorted(part.confidence for part in bins)
    assert all(part.confidence == pytest.approx(part.right) for part in bins)


def test_the_map_that_made_the_outcomes_is_found() -> None:
    scores = np.random.default_rng(2).normal(size=40_000)
    right = outcomes(1 / (1 + np.exp(-(1.7 * scores - 0.6))))
    scale, offset = fit_logistic_map(scores, right)
    assert (scale, offset) == (pytest.approx(1.7, abs=0.08), pytest.approx(-0.6, abs=0.05))


def test_a_separable_set_gives_a_finite_map() -> None:
    scale, offset = fit_logistic_map(np.array([-1.0, 1.0]), np.array([0.0, 1.0]))
    assert np.isfinite([scale, offset]).all()
    assert scale > 0


def test_no_group_is_judged_by_a_map_that_saw_it() -> None:
    """Outcomes that only the own group could foretell stay unforetold."""
    rng = np.random.default_rng(3)
    scores, right = rng.normal(size=400), rng.integers(0, 2, 400).astype(np.float64)
    groups = [f"photo {i // 2}" for i in range(400)]
    fitted = cross_fitted(scores, right, groups)
    assert np.isfinite(fitted).all()
    assert brier_score(fitted, right) >= 0.24
    moved = right.copy()
    moved[:2] = 1 - moved[:2]
    assert np.array_equal(cross_fitted(scores, moved, groups)[:2], fitted[:2])


@pytest.mark.parametrize(
    ("confidence", "right"), [([], []), ([0.5], [1.0, 0.0]), ([1.5], [1.0]), ([float("nan")], [1.0])]
)
def test_what_cannot_be_judged_is_refused(confidence: list[float], right: list[float]) -> None:
    with pytest.raises(ValueError, match="confidences"):
        reliability_bins(np.array(confidence), np.array(right))
