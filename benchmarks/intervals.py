"""How sure a measured value is: percentile bootstrap over what was sampled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["bootstrap_interval", "mean", "ratio"]


def mean(rows: NDArray[Any]) -> float:
    """Mean of one value per row."""
    return float(rows.mean())


def ratio(rows: NDArray[Any]) -> float:
    """Sum of the first column over the sum of the second: a rate over rows of unequal size."""
    total = rows.sum(axis=0)
    return float(total[0] / total[1])


def bootstrap_interval(
    rows: NDArray[Any],
    statistic: Callable[[NDArray[Any]], float] = mean,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a statistic of independent rows, [rows, …] (Efron 1979).

    Give one row per image, not per question: questions about one image stand or fall together.

    Raises:
        ValueError: no rows, a value that is not finite, or a level outside 0..1.
    """
    if len(rows) == 0 or not np.isfinite(rows).all():
        raise ValueError("an interval needs rows, all of them finite")
    if not 0.0 < level < 1.0:
        raise ValueError(f"level {level} is outside 0..1")
    rng = np.random.default_rng(seed)
    values = np.array([statistic(rows[rng.integers(0, len(rows), len(rows))]) for _ in range(resamples)])
    if not np.isfinite(values).all():
        raise ValueError("the statistic is not finite on every resample: too few rows")
    low, high = np.quantile(values, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return float(low), float(high)
