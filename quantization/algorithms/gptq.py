"""Rounding column by column, each error made good by the columns that are still to come."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mobile_multimodal.quantized_tensor import QuantizationScheme
from quantization.algorithms.mse_clip import mse_clip
from quantization.qparams import round_to_grid

__all__ = ["gptq"]

DAMPING = 0.01
"""Share of the mean variance that is added to every column's, so that the inverse exists."""


def gptq(
    matrix: NDArray[np.float32], scheme: QuantizationScheme, moment: NDArray[np.float64]
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """``q`` and scales that make E[|(W - Ŵ) x|²] small for inputs with ``moment`` E[x xᵀ] [columns, columns].

    Frantar et al., arXiv 2210.17323: columns in order, the rounding error of each spread over the later ones
    by the Cholesky factor of the inverse moment; the scale of a group is fitted when its first column is due.

    Raises:
        ValueError: a moment that does not fit the matrix, or holds numbers that are not finite.
    """
    channels, columns = matrix.shape
    if moment.shape != (columns, columns) or not np.isfinite(moment).all():
        raise ValueError(f"moment {moment.shape} does not fit {columns} columns, or is not finite")
    factor = _inverse_factor(moment)
    weights = matrix.astype(np.float64)
    values = np.zeros(matrix.shape, dtype=np.int8)
    scales = np.ones((channels, scheme.groups(columns)), dtype=np.float32)
    width = scheme.group_size or columns
    for group in range(scheme.groups(columns)):
        first, last = group * width, min((group + 1) * width, columns)
        block = weights[:, first:last]
        _, fitted = mse_clip(block.astype(np.float32), scheme)
        scales[:, group] = fitted[:, 0]
        errors = np.zeros_like(block)
        for column in range(last - first):
            place = first + column
            current = block[:, column].astype(np.float32)[:, None, None]
            values[:, place] = round_to_grid(current, fitted, scheme)[:, 0, 0]
            error = (block[:, column] - values[:, place] * fitted[:, 0]) / factor[place, place]
            block[:, column:] -= np.outer(error, factor[place, place:last])
            errors[:, column] = error
        weights[:, last:] -= errors @ factor[first:last, last:]
    return values, scales


def _inverse_factor(moment: NDArray[np.float64]) -> NDArray[np.float64]:
    """Upper triangular U with Uᵀ U the inverse of the damped moment."""
    symmetric = (moment + moment.T) / 2
    damping = DAMPING * max(float(np.diag(moment).mean()), 1e-12)
    while True:
        inverse = np.linalg.inv(symmetric + damping * np.eye(len(moment)))
        try:
            return np.asarray(np.linalg.cholesky((inverse + inverse.T) / 2).T, dtype=np.float64)
        except np.linalg.LinAlgError:
            # Inputs that hardly vary leave a covariance that is nothing but rounding.
            damping *= 10
