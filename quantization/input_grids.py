"""Grids of 8 bits for what a layer reads, fitted to the numbers that calibration pictures send through it.

Every method keeps 0 as a level of its own, so that padding stays what it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mobile_multimodal.quantized_tensor import InputGrid

__all__ = ["METHODS", "Fit", "ObservedInputs", "fit_grid"]

LEVELS = 256
PERCENTILE = 99.99
CLIPS = np.linspace(0.3, 1.0, 29)
BINS = 2048


@dataclass(frozen=True)
class ObservedInputs:
    """A sample of the numbers that a layer read [count], and the smallest and largest of all of them.

    Raises:
        ValueError: no values, or some that are not finite.
    """

    values: NDArray[np.float32]
    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.values.size or not np.isfinite([*self.values, self.low, self.high]).all():
            raise ValueError("no values to fit a grid to, or some that are not finite")


Fit = Callable[[ObservedInputs], tuple[float, float]]


def _with_zero(seen: ObservedInputs) -> tuple[float, float]:
    """The whole range and 0, which every grid holds."""
    return min(seen.low, 0.0), max(seen.high, 1e-8)


def _whole(seen: ObservedInputs) -> tuple[float, float]:
    """Nothing is clipped."""
    return seen.low, seen.high


def _percentile(seen: ObservedInputs) -> tuple[float, float]:
    """A ten-thousandth of the values may lie outside, at either end."""
    low, high = np.percentile(seen.values, [100 - PERCENTILE, PERCENTILE])
    return float(low), float(high)


def _least_squares(seen: ObservedInputs) -> tuple[float, float]:
    """The share of the whole range with the least squared error."""
    values, low, high = seen.values, *_with_zero(seen)

    def error(clip: float) -> float:
        grid = _grid(low * clip, high * clip)
        return float(np.square(_rounded(values, grid) - values).mean())

    best = min(CLIPS[::-1], key=error)
    return low * float(best), high * float(best)


def _entropy(seen: ObservedInputs) -> tuple[float, float]:
    """The share of the whole range whose rounded histogram diverges least from the values' own.

    Migacz, "8-bit inference with TensorRT" (GTC 2017), on the range with its own two ends.
    """
    low, high = _with_zero(seen)
    counts, edges = np.histogram(seen.values, BINS, (low, high))
    centers = (edges[:-1] + edges[1:]) / 2

    def divergence(clip: float) -> float:
        inside = (centers >= low * clip) & (centers <= high * clip)
        first, last = np.flatnonzero(inside)[[0, -1]]
        # What is clipped counts where it lands, and a level's count is spread over the bins that it rounds.
        wanted = counts[first : last + 1].astype(np.float64)
        level = _grid(low * clip, high * clip).quantize(centers[first : last + 1])
        filled = wanted > 0
        shares = np.bincount(level, wanted, LEVELS) / np.maximum(np.bincount(level, filled, LEVELS), 1)
        found = np.where(filled, shares[level], 0.0)
        wanted[0] += counts[:first].sum()
        wanted[-1] += counts[last + 1 :].sum()
        p, q = wanted / wanted.sum(), found / max(found.sum(), 1e-12)
        counted = p > 0
        return float((p[counted] * np.log(p[counted] / np.maximum(q[counted], 1e-9))).sum())

    best = min(CLIPS[::-1], key=divergence)
    return low * float(best), high * float(best)


METHODS: Mapping[str, Fit] = {
    "min_max": _whole,
    "percentile": _percentile,
    "mse": _least_squares,
    "entropy": _entropy,
}


def fit_grid(seen: ObservedInputs, method: str) -> InputGrid:
    """The grid for inputs like these, by one of ``METHODS``.

    Raises:
        KeyError: no method of this name.
    """
    return _grid(*METHODS[method](seen))


def _grid(low: float, high: float) -> InputGrid:
    low, high = min(low, 0.0), max(high, 0.0)
    # float32, as files and runtimes hold it.
    scale = float(np.float32(max(high - low, 1e-8) / (LEVELS - 1)))
    return InputGrid(scale, int(np.clip(np.rint(-low / scale), 0, LEVELS - 1)))


def _rounded(values: NDArray[np.float32], grid: InputGrid) -> NDArray[np.float32]:
    levels = grid.quantize(values).astype(np.int32) - grid.zero_point
    result: NDArray[np.float32] = (levels * np.float32(grid.scale)).astype(np.float32)
    return result
