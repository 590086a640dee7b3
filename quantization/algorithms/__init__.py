"""The algorithms that a recipe may name: weight matrix and scheme → whole numbers and scales.

Each is one file with one function ``(matrix [channels, columns], scheme) → q int8 [channels, columns],
scale [channels, groups]``, and one line of a table; those of ``CALIBRATED`` also take the second moment
[columns, columns] of the layer's inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobile_multimodal.quantized_tensor import QuantizationScheme
from quantization.algorithms.gptq import gptq
from quantization.algorithms.min_max import min_max
from quantization.algorithms.mse_clip import mse_clip

__all__ = ["ALGORITHMS", "CALIBRATED", "Algorithm", "CalibratedAlgorithm"]

Quantized = tuple[NDArray[np.int8], NDArray[np.floating[Any]]]
Algorithm = Callable[[NDArray[np.float32], QuantizationScheme], Quantized]
CalibratedAlgorithm = Callable[[NDArray[np.float32], QuantizationScheme, NDArray[np.float64]], Quantized]

ALGORITHMS: Mapping[str, Algorithm] = {"min_max": min_max, "mse_clip": mse_clip}
CALIBRATED: Mapping[str, CalibratedAlgorithm] = {"gptq": gptq}
