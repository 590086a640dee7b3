"""How far two arrays are apart. Missing values never pass: NaN and empty arrays raise."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["cosine_similarity", "max_abs_error", "sqnr_db"]


def sqnr_db(reference: NDArray[Any], measured: NDArray[Any]) -> float:
    """Signal to quantization noise in decibels: 10 · log10(Σ reference² / Σ (reference - measured)²).

    Infinite where nothing differs; minus infinite where the reference is all zeros and the other is not.

    Raises:
        ValueError: shapes differ, nothing to compare, or a value that is not finite.
    """
    wanted, found = _checked(reference, measured)
    noise = float(((wanted - found) ** 2).sum())
    if noise == 0.0:
        return float("inf")
    signal = float((wanted**2).sum())
    return 10.0 * float(np.log10(signal / noise)) if signal > 0.0 else float("-inf")


def cosine_similarity(reference: NDArray[Any], measured: NDArray[Any]) -> float:
    """The cosine of the angle between both, as vectors; 1 where both are all zeros, 0 where one is.

    Raises:
        ValueError: as for :func:`sqnr_db`.
    """
    wanted, found = _checked(reference, measured)
    lengths = float(np.linalg.norm(wanted)), float(np.linalg.norm(found))
    if 0.0 in lengths:
        return float(lengths[0] == lengths[1])
    return float(wanted.ravel() @ found.ravel() / (lengths[0] * lengths[1]))


def max_abs_error(reference: NDArray[Any], measured: NDArray[Any]) -> float:
    """The largest difference of two values.

    Raises:
        ValueError: as for :func:`sqnr_db`.
    """
    wanted, found = _checked(reference, measured)
    return float(np.abs(wanted - found).max())


def _checked(
    reference: NDArray[Any], measured: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if reference.shape != measured.shape:
        raise ValueError(f"shapes {reference.shape} and {measured.shape} differ")
    if reference.size == 0:
        raise ValueError("nothing to compare")
    wanted, found = reference.astype(np.float64), measured.astype(np.float64)
    if not (np.isfinite(wanted).all() and np.isfinite(found).all()):
        raise ValueError("a value is not finite")
    return wanted, found
