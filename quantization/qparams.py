"""Scales and rounding: what every algorithm does with a matrix in groups."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobile_multimodal.quantized_tensor import QuantizationScheme

__all__ = ["grouped", "round_to_grid", "storable", "ungrouped"]


def grouped(matrix: NDArray[np.float32], scheme: QuantizationScheme) -> NDArray[np.float32]:
    """[channels, columns] → [channels, groups, group size]; a short last group is filled with zeros.

    A zero quantizes to zero and takes no part in a largest value or an error.
    """
    channels, columns = matrix.shape
    width = scheme.group_size or columns
    groups = scheme.groups(columns)
    padded = np.zeros((channels, groups * width), dtype=np.float32)
    padded[:, :columns] = matrix
    return padded.reshape(channels, groups, width)


def ungrouped(values: NDArray[Any], columns: int) -> NDArray[Any]:
    """What :func:`grouped` grouped: [channels, groups, group size] → [channels, columns]."""
    return values.reshape(len(values), -1)[:, :columns]


def storable(scale: NDArray[np.floating[Any]], scheme: QuantizationScheme) -> NDArray[np.float32]:
    """Scales as they come back from the file; those of all-zero groups are 1, so that nothing divides by 0.

    Rounding to the stored precision first lets the whole numbers make up for it.
    """
    positive = np.where(scale > 0, scale, 1.0)
    smallest = np.finfo(scheme.scale_dtype).smallest_subnormal
    return np.maximum(positive, smallest).astype(scheme.scale_dtype).astype(np.float32)


def round_to_grid(
    groups: NDArray[np.float32], scale: NDArray[np.float32], scheme: QuantizationScheme
) -> NDArray[np.int8]:
    """The nearest ``q`` of [channels, groups, group size] with scales [channels, groups]."""
    values = np.clip(np.rint(groups / scale[:, :, None]), -scheme.largest, scheme.largest)
    whole: NDArray[np.int8] = values.astype(np.int8)
    return whole
