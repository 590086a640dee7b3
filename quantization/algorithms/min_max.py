"""The largest weight of a group is the largest step: nothing is clipped."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mobile_multimodal.quantized_tensor import QuantizationScheme
from quantization.qparams import grouped, round_to_grid, storable, ungrouped

__all__ = ["min_max"]


def min_max(
    matrix: NDArray[np.float32], scheme: QuantizationScheme
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """``scale = max |w| / largest q`` of every group (Jacob et al., arXiv 1712.05877, symmetric)."""
    groups = grouped(matrix, scheme)
    scale = storable(np.abs(groups).max(axis=2) / scheme.largest, scheme)
    return ungrouped(round_to_grid(groups, scale, scheme), matrix.shape[1]), scale
