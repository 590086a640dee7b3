"""Weights in 8, 4 or 2 bits: how they are stored, and how they become floats again.

A value is ``scale · q`` with a whole ``q`` of both signs alike, so that no zero point is needed: -127..127,
-7..7, and in 2 bits -1, 0, 1, the only levels that ONNX Runtime, LiteRT and Core ML all keep without loss.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BITS",
    "GRANULARITIES",
    "InputGrid",
    "QuantizationScheme",
    "QuantizedTensor",
    "from_channels",
    "pack",
    "to_channels",
    "unpack",
]

BITS = (2, 4, 8)
GRANULARITIES = ("per_channel", "per_group")


@dataclass(frozen=True)
class QuantizationScheme:
    """How many bits a weight takes, and how many weights share a scale.

    ``per_channel``: one scale for each output channel, float32 at 8 bits and float16 below. ``per_group``:
    one float16 scale for each ``group_size`` weights in a row of a channel; the last group of a row may be
    shorter.

    Raises:
        ValueError: bits or a granularity that are not listed, or a group size that does not belong.
    """

    bits: int
    granularity: str = "per_channel"
    group_size: int | None = None

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            raise ValueError(f"{self.bits} bits are none of {', '.join(map(str, BITS))}")
        if self.granularity not in GRANULARITIES:
            raise ValueError(f"granularity {self.granularity!r} is none of {', '.join(GRANULARITIES)}")
        if (self.granularity == "per_group") != (self.group_size is not None):
            raise ValueError("group_size belongs to per_group, and to it alone")
        if self.group_size is not None and (self.group_size < 16 or self.group_size & (self.group_size - 1)):
            raise ValueError(f"group_size {self.group_size} is no power of two of at least 16")

    @property
    def largest(self) -> int:
        """The largest ``q``; the smallest is its negative."""
        return int(2 ** (self.bits - 1) - 1)

    @property
    def scale_dtype(self) -> type[np.floating[Any]]:
        """Where weights are small, scales are a share of the bytes that counts: they take half precision."""
        return np.float32 if self.bits == 8 and self.granularity == "per_channel" else np.float16

    def groups(self, columns: int) -> int:
        """How many scales a channel of so many weights has."""
        return 1 if self.group_size is None else -(-columns // self.group_size)

    def stored_bytes(self, shape: tuple[int, ...], axis: int = 0) -> int:
        """Bytes of a weight of this shape, packed, with its scales."""
        channels = shape[axis]
        columns = math.prod(shape) // channels
        row_bytes = -(-columns * self.bits // 8)
        return channels * (row_bytes + self.groups(columns) * np.dtype(self.scale_dtype).itemsize)


def to_channels(weight: NDArray[Any], axis: int) -> NDArray[Any]:
    """A weight as a matrix [channels, columns], one row for each index of ``axis``."""
    return np.ascontiguousarray(np.moveaxis(weight, axis, 0)).reshape(weight.shape[axis], -1)


def from_channels(matrix: NDArray[Any], shape: tuple[int, ...], axis: int) -> NDArray[Any]:
    """The weight of this shape that :func:`to_channels` made a matrix of."""
    moved = (shape[axis], *(size for i, size in enumerate(shape) if i != axis))
    return np.ascontiguousarray(np.moveaxis(matrix.reshape(moved), 0, axis))


def pack(values: NDArray[np.int8], bits: int) -> NDArray[np.uint8]:
    """``q`` [channels, columns] → bytes [channels, ceil(columns · bits / 8)].

    Stored is ``q + 2^(bits - 1)``, the first value of a byte in its lowest bits, as ONNX Runtime's
    MatMulNBits reads it; a row is filled up with zeros of ``q``.
    """
    per_byte = 8 // bits
    channels, columns = values.shape
    padded = np.zeros((channels, -(-columns // per_byte) * per_byte), dtype=np.int16)
    padded[:, :columns] = values
    codes = (padded + 2 ** (bits - 1)).astype(np.uint8).reshape(channels, -1, per_byte)
    shifts = (np.arange(per_byte) * bits).astype(np.uint8)
    packed: NDArray[np.uint8] = np.bitwise_or.reduce(codes << shifts, axis=2)
    return packed


def unpack(packed: NDArray[np.uint8], bits: int, columns: int) -> NDArray[np.int8]:
    """What :func:`pack` packed: bytes [channels, row bytes] → ``q`` [channels, columns]."""
    per_byte = 8 // bits
    shifts = (np.arange(per_byte) * bits).astype(np.uint8)
    codes = (packed[:, :, None] >> shifts) & (2**bits - 1)
    values = codes.reshape(len(packed), -1)[:, :columns].astype(np.int16) - 2 ** (bits - 1)
    whole: NDArray[np.int8] = values.astype(np.int8)
    return whole


@dataclass(frozen=True)
class InputGrid:
    """The 256 levels that the inputs of a layer are rounded to: ``scale · (q - zero_point)``, q in 0..255.

    Raises:
        ValueError: a scale that is not positive and finite, or a zero point outside 0..255.
    """

    scale: float
    zero_point: int

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"input scale {self.scale} is not positive and finite")
        if not 0 <= self.zero_point <= 255:
            raise ValueError(f"zero point {self.zero_point} is outside 0..255")

    def quantize(self, x: NDArray[Any]) -> NDArray[np.uint8]:
        """The nearest levels, halves to even, as ONNX's QuantizeLinear has it."""
        levels = np.rint(x.astype(np.float32) / np.float32(self.scale)) + self.zero_point
        whole: NDArray[np.uint8] = np.clip(levels, 0, 255).astype(np.uint8)
        return whole


@dataclass(frozen=True)
class QuantizedTensor:
    """A weight of ``shape`` whose output channels lie along ``axis``.

    ``packed`` uint8 [channels, row bytes] as :func:`pack` makes it; ``scale`` [channels, groups].
    ``input_grid`` is what the inputs of the weight's layer are rounded to, None where they stay float.

    Raises:
        ValueError: parts that do not fit each other, or a scale that is not positive and finite.
    """

    packed: NDArray[np.uint8]
    scale: NDArray[np.floating[Any]]
    scheme: QuantizationScheme
    shape: tuple[int, ...]
    axis: int = 0
    input_grid: InputGrid | None = None

    def __post_init__(self) -> None:
        channels, columns = self.shape[self.axis], self.columns
        row_bytes = -(-columns * self.scheme.bits // 8)
        if self.packed.shape != (channels, row_bytes) or self.packed.dtype != np.uint8:
            raise ValueError(f"packed {self.packed.dtype} {self.packed.shape} does not fit {self.shape}")
        if self.scale.shape != (channels, self.scheme.groups(columns)):
            raise ValueError(f"scale {self.scale.shape} does not fit {self.shape}")
        if self.scale.dtype != self.scheme.scale_dtype:
            raise ValueError(f"scale is {self.scale.dtype}, not {np.dtype(self.scheme.scale_dtype)}")
        if not (np.isfinite(self.scale).all() and (self.scale > 0).all()):
            raise ValueError("a scale is not positive and finite")

    @classmethod
    def of(
        cls,
        values: NDArray[np.int8],
        scale: NDArray[np.floating[Any]],
        scheme: QuantizationScheme,
        shape: tuple[int, ...],
        axis: int = 0,
    ) -> QuantizedTensor:
        """Pack ``q`` [channels, columns] with its scales [channels, groups]."""
        return cls(pack(values, scheme.bits), scale.astype(scheme.scale_dtype), scheme, shape, axis)

    @property
    def columns(self) -> int:
        """Weights of one channel."""
        return math.prod(self.shape) // self.shape[self.axis]

    @property
    def nbytes(self) -> int:
        """Bytes of packed values and scales."""
        return self.packed.nbytes + self.scale.nbytes

    def values(self) -> NDArray[np.int8]:
        """``q`` [channels, columns]."""
        return unpack(self.packed, self.scheme.bits, self.columns)

    def scales(self) -> NDArray[np.float32]:
        """The scale of every weight's group, [channels, columns]."""
        width = self.scheme.group_size or self.columns
        return np.repeat(self.scale.astype(np.float32), width, axis=1)[:, : self.columns]

    def dequantize(self) -> NDArray[np.float32]:
        """The weight in float32, in its own shape."""
        return from_channels(self.values() * self.scales(), self.shape, self.axis)
