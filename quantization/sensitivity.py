"""What each width costs each weight: noise at the output of its layer, and bytes of its file."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobile_multimodal.bundle import ModelBundle
from mobile_multimodal.quantized_tensor import QuantizationScheme, QuantizedTensor, to_channels
from mobile_multimodal.weight_files import StoredTensor, write_weights
from quantization.calibration import InputStatistics, calibrate
from quantization.plan import PlannedTensor, plan_quantization
from quantization.quantize import quantize_tensor
from quantization.recipe import MIXED, QuantizationRecipe, QuantizationRule

__all__ = [
    "Candidate",
    "WeightCandidates",
    "empty_tensor",
    "look_at_every_layer",
    "measure_sensitivity",
    "noise_to_signal",
]

EVERY_WEIGHT = QuantizationRecipe(MIXED, (QuantizationRule("*", "*", QuantizationScheme(8)),))
GROUP_SIZE = 32
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Candidate:
    """One way to store a weight; ``scheme`` None leaves it as it is.

    ``noise`` is its noise-to-signal ratio, ``file_bytes`` what it takes, its share of the header included.
    """

    scheme: QuantizationScheme | None
    algorithm: str
    noise: float
    file_bytes: int


@dataclass(frozen=True)
class WeightCandidates:
    """A weight and the ways to store it, widest first: each takes fewer bytes and is noisier than the last.

    ``axis`` is that of its output channels.
    """

    component: str
    tensor: str
    shape: tuple[int, ...]
    axis: int
    candidates: tuple[Candidate, ...]


def look_at_every_layer(
    bundle: ModelBundle, pictures: Sequence[Path], *, progress: Progress | None = None
) -> dict[tuple[str, str], InputStatistics]:
    """What the inputs of all weights are like that calibration can look at.

    Raises:
        UsageError: a bundle that is quantized already, or an artifact.
    """
    planned = plan_quantization(bundle, EVERY_WEIGHT)
    wanted = [(tensor.component, tensor.tensor) for tensor in planned if tensor.role is not None]
    return calibrate(bundle, wanted, pictures, progress=progress)


def measure_sensitivity(
    bundle: ModelBundle,
    statistics: Mapping[tuple[str, str], InputStatistics],
    *,
    progress: Progress | None = None,
) -> tuple[WeightCandidates, ...]:
    """What every weight of the bundle would lose by every width, in the order of components and names.

    Weights without ``statistics`` (embeddings, depthwise filters, networks that no picture reached) are
    judged by their own error, and are not offered 2 bits. For speed, weights that are to be rounded by a
    calibrated algorithm are judged by what plain rounding does to them, which is seldom better.

    Raises:
        UsageError: a bundle that is quantized already, or an artifact.
    """
    planned = [tensor for tensor in plan_quantization(bundle, EVERY_WEIGHT) if tensor.role is not None]
    stored = {part.name: bundle.stored_weights(part.name) for part in bundle.manifest.components}
    measured = []
    for tensor in planned:
        measured.append(
            _candidates(tensor, stored[tensor.component], statistics.get((tensor.component, tensor.tensor)))
        )
        if progress is not None:
            progress(len(measured), len(planned))
    return tuple(measured)


def noise_to_signal(
    matrix: NDArray[np.float32], restored: NDArray[np.float32], inputs: InputStatistics | None
) -> float:
    """E|(W - Ŵ) x|² / E|W x|² of [channels, columns]; without ``inputs``, |W - Ŵ|² / |W|².

    So it is for a layer whose outputs were all zero, too; a weight of zeros has no noise.
    """
    moment = None if inputs is None or _power(matrix, inputs.moment) <= 0 else inputs.moment
    signal = _power(matrix, moment)
    return max(_power(matrix - restored, moment), 0.0) / signal if signal > 0 else 0.0


def empty_tensor(shape: tuple[int, ...], axis: int, scheme: QuantizationScheme) -> QuantizedTensor:
    """A weight of zeros, which takes as many bytes as any other of its shape and scheme."""
    channels = shape[axis]
    columns = math.prod(shape) // channels
    packed = np.zeros((channels, -(-columns * scheme.bits // 8)), dtype=np.uint8)
    scale = np.ones((channels, scheme.groups(columns)), dtype=scheme.scale_dtype)
    return QuantizedTensor(packed, scale, scheme, shape, axis)


def _power(matrix: NDArray[np.float32], moment: NDArray[np.float64] | None) -> float:
    """E|M x|² for inputs with the moment E[x xᵀ]; of independent inputs where that is None."""
    wide = matrix.astype(np.float64)
    return float(np.vdot(wide, wide if moment is None else wide @ moment))


def _schemes(kind: str, *, seen: bool) -> Sequence[tuple[QuantizationScheme, str]]:
    """The widths that a weight of this kind may have, each with its algorithm."""
    if kind == "depthwise":  # so few weights share a scale that groups would save nothing
        return [(QuantizationScheme(bits), "mse_clip") for bits in (8, 4)]
    fitted = "gptq" if seen else "mse_clip"
    schemes = [
        (QuantizationScheme(8), "min_max"),
        (QuantizationScheme(4, "per_group", GROUP_SIZE), fitted),
    ]
    if seen and kind in ("linear", "pointwise"):
        schemes.append((QuantizationScheme(2, "per_group", GROUP_SIZE), fitted))
    return schemes


def _candidates(
    tensor: PlannedTensor, stored: Mapping[str, StoredTensor], inputs: InputStatistics | None
) -> WeightCandidates:
    assert tensor.role is not None
    weight = stored[tensor.tensor]
    assert not isinstance(weight, QuantizedTensor)
    matrix = to_channels(weight.astype(np.float32), tensor.role.axis)
    candidates = [Candidate(None, "min_max", 0.0, len(write_weights({tensor.tensor: weight})))]
    for scheme, algorithm in _schemes(tensor.role.kind, seen=inputs is not None):
        quantized = quantize_tensor(weight, replace(tensor, scheme=scheme, algorithm=algorithm))
        restored = to_channels(quantized.dequantize(), tensor.role.axis)
        empty = empty_tensor(tensor.shape, tensor.role.axis, scheme)
        candidates.append(
            Candidate(
                scheme,
                algorithm,
                noise_to_signal(matrix, restored, inputs),
                len(write_weights({tensor.tensor: empty})),
            )
        )
    return WeightCandidates(
        tensor.component, tensor.tensor, tensor.shape, tensor.role.axis, _undominated(candidates)
    )


def _undominated(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Those to which no other is preferable, narrowing from 8 bits, or from float16 where that is smaller."""
    plain, widest = candidates[0], candidates[1]
    offered = candidates if plain.file_bytes <= widest.file_bytes else candidates[1:]
    kept: list[Candidate] = []
    for candidate in sorted(offered, key=lambda row: (row.noise, row.file_bytes)):
        if not kept or candidate.file_bytes < kept[-1].file_bytes:
            kept.append(candidate)
    return tuple(kept)
