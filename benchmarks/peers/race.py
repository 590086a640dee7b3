"""Ours and others' on the same picture, in turns: medians, and how many times as long others take."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.timing import SamplingPlan, elapsed_ms, take_samples
from mobile_multimodal.errors import MissingExtraError
from mobile_multimodal.image import LoadedImage
from mobile_multimodal.model import MobileMultiModalLLM
from mobile_multimodal.results import TaskRequest

__all__ = ["OURS", "Competitor", "Lap", "open_all", "our_captioner", "our_reader", "race"]

OURS = "mmllm"
Run = Callable[[NDArray[np.uint8]], int]
"""Pixels [H, W, 3] → how much was written: tokens or characters."""


@dataclass(frozen=True)
class Competitor:
    """Something to time; ``missing`` says why it cannot be, and how it could."""

    name: str
    run: Run | None
    missing: str = ""


@dataclass(frozen=True)
class Lap:
    """What one competitor took, in milliseconds; without samples, why."""

    name: str
    samples_ms: tuple[float, ...]
    written: int = 0
    missing: str = ""

    @property
    def median_ms(self) -> float | None:
        """The middle sample, None without any."""
        return float(np.median(self.samples_ms)) if self.samples_ms else None

    @property
    def fastest_ms(self) -> float | None:
        """The least sample: what other programs disturbed least. None without any."""
        return min(self.samples_ms, default=None)


def open_all(openers: Mapping[str, Callable[[int], Run]], argument: int) -> list[Competitor]:
    """Every competitor, opened; one that is not installed stays in the list with the reason."""
    opened = []
    for name, opener in openers.items():
        try:
            opened.append(Competitor(name, opener(argument)))
        except MissingExtraError as exc:
            opened.append(Competitor(name, None, str(exc)))
    return opened


def our_captioner(model: MobileMultiModalLLM) -> Run:
    """Our captions, from the pixels on."""

    def caption(pixels: NDArray[np.uint8]) -> int:
        [[result]] = model.run([LoadedImage(pixels, "<picture>")], [TaskRequest("caption")])
        return len(result.token_ids)

    return caption


def our_reader(model: MobileMultiModalLLM) -> Run:
    """Our reading, from the pixels on.

    Raises:
        UsageError: the model has no text reader.
    """

    def read(pixels: NDArray[np.uint8]) -> int:
        return len(model.read(LoadedImage(pixels, "<page>")).text)

    return read


def race(competitors: Sequence[Competitor], pixels: NDArray[np.uint8], runs: int) -> list[Lap]:
    """Time all on one picture, in turns, after one turn that is not counted → a lap each, in their order."""
    written: dict[str, int] = {}

    def timed(competitor: Competitor) -> Callable[[], float]:
        run = competitor.run
        assert run is not None

        def once() -> float:
            started = time.perf_counter_ns()
            written[competitor.name] = run(pixels)
            return elapsed_ms(started)

        return once

    there = [competitor for competitor in competitors if competitor.run is not None]
    samples = take_samples([timed(competitor) for competitor in there], SamplingPlan(runs, warmup=1))
    taken = {competitor.name: tuple(row) for competitor, row in zip(there, samples, strict=True)}
    return [Lap(c.name, taken.get(c.name, ()), written.get(c.name, 0), c.missing) for c in competitors]
