"""What a quantization did: bits, bytes and noise of every tensor, summed by component."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["ComponentSummary", "QuantizationReport", "TensorReport", "summarize"]


@dataclass(frozen=True)
class TensorReport:
    """One tensor; ``sqnr_db`` is None where it was stored as it was, or differs in nothing.

    ``input_bits`` is what its layer's inputs are rounded to, None where they stay float: by the recipe, or
    because no calibration picture reached the layer.
    """

    component: str
    tensor: str
    kind: str
    size: int
    bits: int
    algorithm: str
    bytes_before: int
    bytes_after: int
    sqnr_db: float | None
    input_bits: int | None = None


@dataclass(frozen=True)
class ComponentSummary:
    """The tensors of a component together.

    ``bits_per_weight`` counts scales too; ``sqnr_db`` is the mean over quantized weights, each number
    counting the same. ``file_bytes`` is the size of the file as written, 0 where none was.
    """

    component: str
    size: int
    bits_per_weight: float
    bytes_before: int
    bytes_predicted: int
    file_bytes: int
    sqnr_db: float | None


@dataclass(frozen=True)
class QuantizationReport:
    """What was planned (a dry run), or done, to a bundle."""

    recipe: str
    source_sha256: str
    tensors: tuple[TensorReport, ...]
    components: tuple[ComponentSummary, ...]
    sha256: str | None = None
    schema_version: int = 1

    @property
    def bytes_before(self) -> int:
        """Bytes of all weights before."""
        return sum(summary.bytes_before for summary in self.components)

    @property
    def bytes_after(self) -> int:
        """Bytes of all weight files as written, or as predicted where none were."""
        return sum(summary.file_bytes or summary.bytes_predicted for summary in self.components)

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return {
            **dataclasses.asdict(self),
            "bytes_before": self.bytes_before,
            "bytes_after": self.bytes_after,
        }


def summarize(
    component: str, tensors: Sequence[TensorReport], file_before: int, file_bytes: int
) -> ComponentSummary:
    """The summary of one component's tensors; ``file_before`` is the size of the file they came from."""
    size = sum(row.size for row in tensors)
    after = sum(row.bytes_after for row in tensors)
    noisy = [row for row in tensors if row.sqnr_db is not None]
    weight = sum(row.size for row in noisy)
    mean = math.fsum(row.size * (row.sqnr_db or 0.0) for row in noisy) / weight if weight else None
    return ComponentSummary(component, size, 8 * after / size, file_before, after, file_bytes, mean)
