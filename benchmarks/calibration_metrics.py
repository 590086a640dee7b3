"""How far a confidence is from the share of results that are right, and the map that brings it there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ReliabilityBin",
    "brier_score",
    "cross_fitted",
    "expected_calibration_error",
    "fit_logistic_map",
    "reliability_bins",
]

Floats = NDArray[np.float64]
RIDGE = 1e-3
"""Keeps the fit finite where confidence separates right from wrong without an exception."""


@dataclass(frozen=True)
class ReliabilityBin:
    """Results of similar confidence: how many, their mean confidence, and the share that is right."""

    count: int
    confidence: float
    right: float


def reliability_bins(confidence: Floats, right: Floats, bins: int = 10) -> list[ReliabilityBin]:
    """Bins of equal count, by rising confidence; ``right`` is 0..1 for each result.

    Raises:
        ValueError: no results, lengths that differ, or values outside 0..1.
    """
    if not len(confidence) or len(confidence) != len(right):
        raise ValueError(f"{len(confidence)} confidences and {len(right)} outcomes")
    for values in (confidence, right):
        if not np.all((values >= 0) & (values <= 1)):
            raise ValueError("confidences and outcomes must lie in 0..1")
    order = np.argsort(confidence, kind="stable")
    return [
        ReliabilityBin(len(part), float(confidence[part].mean()), float(right[part].mean()))
        for part in np.array_split(order, min(bins, len(order)))
    ]


def expected_calibration_error(confidence: Floats, right: Floats, bins: int = 10) -> float:
    """Mean distance of confidence and accuracy over bins of equal count (Guo et al., arXiv 1706.04599)."""
    parts = reliability_bins(confidence, right, bins)
    return sum(part.count * abs(part.confidence - part.right) for part in parts) / len(confidence)


def brier_score(confidence: Floats, right: Floats) -> float:
    """Mean squared distance of confidence and outcome."""
    return float(np.mean((confidence - right) ** 2))


def fit_logistic_map(scores: Floats, right: Floats, iterations: int = 50) -> tuple[float, float]:
    """Scale and offset of sigmoid(scale · score + offset), by Newton's method on the cross-entropy.

    Platt scaling ("Probabilistic outputs for support vector machines", 1999), with a slight ridge.
    """
    inputs = np.stack((scores, np.ones_like(scores)), axis=1)  # [N, 2]
    weights = np.zeros(2)
    for _ in range(iterations):
        chance = 1 / (1 + np.exp(-np.clip(inputs @ weights, -30, 30)))
        gradient = inputs.T @ (chance - right) / len(right) + RIDGE * weights
        curvature = (inputs * (chance * (1 - chance))[:, None]).T @ inputs / len(right) + RIDGE * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        weights = weights - step
        if np.abs(step).max() < 1e-9:
            break
    return float(weights[0]), float(weights[1])


def cross_fitted(
    scores: Floats, right: Floats, groups: Sequence[str], folds: int = 5, seed: int = 0
) -> Floats:
    """Calibrated confidences, each by a map that has not seen any result of its group (its photo)."""
    names = sorted(set(groups))
    fold_of = dict(zip(names, np.random.default_rng(seed).permutation(len(names)) % folds, strict=True))
    fold = np.array([fold_of[group] for group in groups])
    fitted = np.empty_like(scores)
    for part in range(folds):
        if (held := fold == part).any():
            scale, offset = fit_logistic_map(scores[~held], right[~held])
            fitted[held] = 1 / (1 + np.exp(-(scale * scores[held] + offset)))
    return fitted
