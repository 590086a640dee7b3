"""The settings of a benchmark, checked before anything is loaded."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mobile_multimodal.errors import UsageError

__all__ = ["SCENARIOS", "BenchmarkConfig", "Scenario"]


@dataclass(frozen=True)
class Scenario:
    """What a scenario takes where the settings leave it open, and the metric that it is about."""

    num_runs: int
    batch_size: int
    headline: str


SCENARIOS: Mapping[str, Scenario] = {
    "single-stream": Scenario(150, 1, "caption_ms"),
    "multi-stream": Scenario(150, 8, "query_ms"),
    "offline": Scenario(130, 8, "batch_ms"),
    "server": Scenario(662, 1, "latency_ms"),
}
"""MLPerf's scenarios; runs are captions, queries of a batch each, batches, and queries of a trial."""


@dataclass(frozen=True)
class BenchmarkConfig:
    """How a benchmark runs.

    Args:
        scenario: one of ``SCENARIOS``.
        num_runs: samples to take; the scenario's own number if not given.
        warmup: runs before them that are not counted.
        min_secs: go on at least so long, whatever ``num_runs`` says.
        max_secs: stop after so long for each model, with the samples there are; also the end of each
            trial of ``server``.
        threads: threads of each model. ``offline`` and ``server`` run a model on each so many cores.
        seed: of the arrivals of ``server``.
        qps: for ``server``: queries a second; the highest rate within the bound is looked for if not given.
        max_latency_ms: for ``server``: what p99 may be at most, waiting included; 200 if not given.
        batch_size: pictures that are captioned together; for ``server`` at most, of those that wait.
        sustained_secs: for ``single-stream``: caption so long without a pause after all else; 0 does not.
        cold_runs: processes that load the model and caption once; 0 leaves them, and the memory, out.
        ocr_runs: pages to read; 0 leaves reading out, as does a model that cannot read.
        roofline: for ``single-stream``: measure what this machine can do at best, and how near it comes;
            left out below the samples that state a median.

    Raises:
        UsageError: an unknown scenario, a number out of range, or one that belongs to another scenario.
    """

    scenario: str = "single-stream"
    num_runs: int | None = None
    warmup: int = 5
    min_secs: float = 0.0
    max_secs: float = 60.0
    threads: int = 1
    seed: int = 0
    qps: float | None = None
    max_latency_ms: float | None = None
    batch_size: int | None = None
    sustained_secs: float = 0.0
    cold_runs: int = 11
    ocr_runs: int = 20
    roofline: bool = True

    def __post_init__(self) -> None:
        if self.scenario not in SCENARIOS:
            raise UsageError(f"unknown scenario {self.scenario!r}", remedy=f"one of {', '.join(SCENARIOS)}")
        at_least: dict[str, float] = {"warmup": 0, "min_secs": 0, "sustained_secs": 0, "seed": 0}
        at_least |= {"cold_runs": 0, "ocr_runs": 0, "threads": 1, "num_runs": 1, "batch_size": 1}
        for name, least in at_least.items():
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= least):
                raise UsageError(f"{_words(name)} {value} is below {least:g}")
        for name in ("max_secs", "qps", "max_latency_ms"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise UsageError(f"{_words(name)} {value} is not above 0")
        if self.min_secs > self.max_secs:
            raise UsageError(f"min secs {self.min_secs:g} is above max secs {self.max_secs:g}")
        belongs = {"qps": "server", "max_latency_ms": "server", "sustained_secs": "single-stream"}
        for name, scenario in belongs.items():
            if getattr(self, name) and self.scenario != scenario:
                raise UsageError(f"{_words(name)} is for scenario {scenario}, not {self.scenario}")
        if self.scenario == "single-stream" and self.batch_size not in (None, 1):
            raise UsageError("single-stream captions one picture at a time", remedy="leave batch size out")

    @property
    def runs(self) -> int:
        """``num_runs``, or the scenario's own number."""
        return SCENARIOS[self.scenario].num_runs if self.num_runs is None else self.num_runs

    @property
    def batch(self) -> int:
        """``batch_size``, or the scenario's own."""
        return SCENARIOS[self.scenario].batch_size if self.batch_size is None else self.batch_size

    @property
    def latency_bound_ms(self) -> float:
        """``max_latency_ms``, or 200."""
        return 200.0 if self.max_latency_ms is None else self.max_latency_ms

    def to_json(self) -> dict[str, Any]:
        """The settings as a report keeps them, with what the scenario filled in."""
        return {**dataclasses.asdict(self), "num_runs": self.runs, "batch_size": self.batch}


def _words(name: str) -> str:
    return name.replace("_", " ")
