"""Scales of the least squared error: a few large weights are clipped where that serves the many."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mobile_multimodal.quantized_tensor import QuantizationScheme
from quantization.qparams import grouped, round_to_grid, storable, ungrouped

__all__ = ["mse_clip"]

CLIPS = np.linspace(0.2, 1.0, 65, dtype=np.float32)
REFINEMENTS = 3


def mse_clip(
    matrix: NDArray[np.float32], scheme: QuantizationScheme
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """The scale of every group that makes Σ (w - scale · q)² smallest.

    The best of a grid of clipping points, then least squares for the scale and rounding in turn, each of
    which can only lower the error (Choi et al., "sawb", arXiv 1807.06964, search by grid instead).
    """
    groups = grouped(matrix, scheme)
    widest = np.abs(groups).max(axis=2) / scheme.largest
    best_scale = storable(widest, scheme)
    best_error = _squared_error(groups, best_scale, scheme)
    for clip in CLIPS[:-1]:
        best_scale, best_error = _better(groups, widest * clip, scheme, best_scale, best_error)
    for _ in range(REFINEMENTS):
        q = round_to_grid(groups, best_scale, scheme).astype(np.float32)
        fitted = (groups * q).sum(axis=2) / np.maximum((q * q).sum(axis=2), 1.0)
        best_scale, best_error = _better(groups, fitted, scheme, best_scale, best_error)
    return ungrouped(round_to_grid(groups, best_scale, scheme), matrix.shape[1]), best_scale


def _better(
    groups: NDArray[np.float32],
    candidate: NDArray[np.float32],
    scheme: QuantizationScheme,
    best_scale: NDArray[np.float32],
    best_error: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    scale = storable(candidate, scheme)
    error = _squared_error(groups, scale, scheme)
    wins = error < best_error
    return np.where(wins, scale, best_scale), np.where(wins, error, best_error)


def _squared_error(
    groups: NDArray[np.float32], scale: NDArray[np.float32], scheme: QuantizationScheme
) -> NDArray[np.float32]:
    q = round_to_grid(groups, scale, scheme)
    error: NDArray[np.float32] = ((groups - q * scale[:, :, None]) ** 2).sum(axis=2)
    return error
