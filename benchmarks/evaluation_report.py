"""What an evaluation measured: figures with their intervals, and the outputs behind them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from benchmarks.intervals import bootstrap_interval, mean
from mobile_multimodal.image import LoadedImage
from mobile_multimodal.results import GenerationConfig, TaskRequest, TaskResult

__all__ = ["EvaluatedModel", "EvaluationReport", "Figure", "Progress", "measure", "part_of"]

Progress = Callable[[int, int], None]


def part_of(progress: Progress | None, before: int, total: int) -> Progress | None:
    """Progress of one part of the work, reported as progress of all of it."""
    return None if progress is None else lambda done, _: progress(before + done, total)


class EvaluatedModel(Protocol):
    """What an evaluation needs of a model; ``MobileMultiModalLLM`` has it."""

    @property
    def name(self) -> str: ...

    @property
    def recipe(self) -> str: ...

    @property
    def sha256(self) -> str: ...

    def run(
        self,
        images: Sequence[LoadedImage],
        requests: Sequence[TaskRequest],
        generation: GenerationConfig | None = None,
    ) -> Sequence[Sequence[TaskResult]]:
        """One result per image and request, [image][request]."""
        ...


@dataclass(frozen=True)
class Figure:
    """One measured value: ``metric`` of ``system`` on ``group``, with its 95 % bootstrap interval.

    The unit is part of the metric's name; CIDEr-D and BLEU-4 are × 100, as papers print them.
    ``samples`` counts captions, questions, words or pages; ``low`` and ``high`` are None where the
    value is a plain count or time.

    Raises:
        ValueError: a value that is not finite, or no samples.
    """

    metric: str
    group: str
    system: str
    value: float
    low: float | None
    high: float | None
    samples: int

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError(f"{self.metric} of {self.group}: no samples")
        if not all(math.isfinite(value) for value in (self.value, self.low, self.high) if value is not None):
            raise ValueError(f"{self.metric} of {self.group}: not a finite number")


def measure(
    metric: str,
    group: str,
    rows: NDArray[Any],
    statistic: Callable[[NDArray[Any]], float] = mean,
    *,
    samples: int,
    system: str = "model",
    scale: float = 1.0,
) -> Figure:
    """A figure from one row per image (or page): the statistic × ``scale``, and its bootstrap interval."""
    low, high = bootstrap_interval(rows, statistic)
    return Figure(metric, group, system, scale * statistic(rows), scale * low, scale * high, samples)


@dataclass(frozen=True)
class EvaluationReport:
    """The figures of one evaluation; ``rows`` holds every output, for reading and for comparing runs."""

    task: str
    data: str
    model: str
    recipe: str
    sha256: str
    images: int
    seconds: float
    figures: tuple[Figure, ...]
    notes: tuple[str, ...]
    rows: tuple[Mapping[str, Any], ...] = dataclasses.field(default=(), repr=False)
    schema_version: int = 1

    def figure(self, metric: str, group: str = "all", system: str = "model") -> Figure:
        """The figure of that name.

        Raises:
            KeyError: this evaluation has no such figure; the message lists those it has.
        """
        for figure in self.figures:
            if (figure.metric, figure.group, figure.system) == (metric, group, system):
                return figure
        have = ", ".join(f"{figure.metric}/{figure.group}/{figure.system}" for figure in self.figures)
        raise KeyError(f"no figure {metric}/{group}/{system}; there are {have}")

    def to_json(self, *, rows: bool = False) -> dict[str, Any]:
        """The report as plain JSON values, the outputs of every row only on request."""
        document = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in {"figures", "notes", "rows"}
        }
        document["figures"] = [dataclasses.asdict(figure) for figure in self.figures]
        document["notes"] = list(self.notes)
        if rows:
            document["rows"] = [dict(row) for row in self.rows]
        return document
