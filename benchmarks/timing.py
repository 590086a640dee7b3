"""The sampling loop: several things measured in turns, until there are samples and seconds enough."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from benchmarks.evaluation_report import Progress

__all__ = ["SamplingPlan", "elapsed_ms", "take_samples"]

Sample = TypeVar("Sample")


@dataclass(frozen=True)
class SamplingPlan:
    """When enough is enough: ``runs`` of each and ``min_secs`` in all, or ``max_secs`` for each."""

    runs: int
    warmup: int = 0
    min_secs: float = 0.0
    max_secs: float = float("inf")


def elapsed_ms(started_ns: int, ended_ns: int | None = None) -> float:
    """Milliseconds between two readings of ``time.perf_counter_ns``; up to now if one is given."""
    return ((time.perf_counter_ns() if ended_ns is None else ended_ns) - started_ns) / 1e6


def take_samples(
    subjects: Sequence[Callable[[], Sample]], plan: SamplingPlan, progress: Progress | None = None
) -> list[list[Sample]]:
    """Call every subject once a turn and keep what it returns → samples [subject][turn].

    The subjects take turns, so that a busy machine slows them alike. Warm-up turns are not kept; their
    time does not count. At least one turn is kept, however long it takes.
    """
    for _ in range(plan.warmup):
        for subject in subjects:
            subject()
    kept: list[list[Sample]] = [[] for _ in subjects]
    started = time.perf_counter_ns()
    turns = 0
    while True:
        for subject, samples in zip(subjects, kept, strict=True):
            samples.append(subject())
        turns += 1
        seconds = elapsed_ms(started) / 1000.0
        enough = turns >= plan.runs and seconds >= plan.min_secs
        if progress is not None:
            progress(turns, max(plan.runs, turns))
        if enough or seconds >= plan.max_secs * len(subjects):
            return kept
