"""Two reports, metric by metric: the ratio with its interval, and what it shows."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.latency_stats import INTERVAL_LEVEL, MINIMUM_SAMPLES
from benchmarks.report import BenchmarkReport, Measurement
from mobile_multimodal.errors import UsageError

__all__ = [
    "HIGHER_IS_BETTER",
    "MetricChange",
    "ReportChange",
    "Verdict",
    "compare_reports",
    "environment_differences",
    "pair_reports",
    "ratio_of_medians",
]

Verdict = Literal["faster", "slower", "no difference shown", "not judged"]

HIGHER_IS_BETTER = frozenset(
    {"images_per_s", "tokens_per_s", "max_qps", "achieved_qps", "gemm_peak_gflops", "encode_peak_percent"}
)
RESAMPLES = 2000
PASSING = frozenset({"load_1m", "sources", "commit"})
"""Parts of an environment that differ between any two runs, or that only say where it was read."""
SETTINGS = ("threads", "batch_size", "photo", "page", "qps", "backend")
"""Settings without which two latencies are not of the same thing."""


@dataclass(frozen=True)
class MetricChange:
    """One metric of both reports; ``ratio`` is B's over A's, of medians where there are samples.

    ``low`` and ``high`` are its 95 % interval, None for single values and where either report has too
    few samples for a median; without them nothing is judged, and ``reason`` says why.
    """

    metric: str
    unit: str
    before: float
    after: float
    ratio: float
    low: float | None
    high: float | None
    verdict: Verdict
    reason: str | None = None

    def is_slower_by(self, percent: float) -> bool:
        """Whether the whole interval lies beyond so many per cent more milliseconds."""
        return self.verdict == "slower" and self.low is not None and self.low > 1.0 + percent / 100.0


@dataclass(frozen=True)
class ReportChange:
    """Two reports of one pair: what they are of, every metric that both have, and what makes them differ.

    ``only_one`` names the metrics that one of them lacks; ``warnings`` say, a line each, in what the
    machine or the settings differ.
    """

    before: str
    after: str
    metrics: tuple[MetricChange, ...]
    only_one: tuple[str, ...]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The comparison as plain JSON values."""
        return {
            "before": self.before,
            "after": self.after,
            "metrics": [vars(change) for change in self.metrics],
            "only_one": list(self.only_one),
            "warnings": list(self.warnings),
        }


def pair_reports(
    before: Sequence[BenchmarkReport], after: Sequence[BenchmarkReport]
) -> list[tuple[BenchmarkReport, BenchmarkReport]]:
    """Which report belongs to which: single ones to each other, others by model, format, recipe, scenario.

    Raises:
        UsageError: several reports of one name, or none that both files have.
    """
    if len(before) == len(after) == 1:
        return [(before[0], after[0])]
    first, second = _by_name(before), _by_name(after)
    shared = [name for name in first if name in second]
    if not shared:
        raise UsageError(
            "the files have no report in common",
            remedy=f"the first has {', '.join(first)}; the second {', '.join(second)}",
        )
    return [(first[name], second[name]) for name in shared]


def _by_name(reports: Sequence[BenchmarkReport]) -> Mapping[str, BenchmarkReport]:
    named: dict[str, BenchmarkReport] = {}
    for report in reports:
        name = f"{report.title} {report.scenario}"
        if name in named:
            raise UsageError(f"a file has several reports of {name}", remedy="compare files of one each")
        named[name] = report
    return named


def compare_reports(before: BenchmarkReport, after: BenchmarkReport, *, seed: int = 0) -> ReportChange:
    """Every metric that both reports have, ``before`` against ``after``.

    A latency is faster or slower where the bootstrap interval of the ratio of medians leaves 1 out.
    Single values have no interval: their ratio is told, and nothing is judged.
    """
    shared = [name for name in before.metrics if name in after.metrics]
    return ReportChange(
        before=before.title,
        after=after.title,
        metrics=tuple(_change(before.metrics[name], after.metrics[name], seed) for name in shared),
        only_one=tuple(
            [name for name in before.metrics if name not in after.metrics]
            + [name for name in after.metrics if name not in before.metrics]
        ),
        warnings=tuple(environment_differences(before, after)),
    )


def _change(before: Measurement, after: Measurement, seed: int) -> MetricChange:
    old, new = before.center, after.center
    ratio = new / old if old else (1.0 if new == old else math.inf)
    low = high = None
    verdict: Verdict = "not judged"
    reason = None
    needed = MINIMUM_SAMPLES[50]
    if not before.samples or not after.samples:
        reason = "single values have no interval"
    elif min(len(before.samples), len(after.samples)) < needed:
        reason = f"inconclusive: needs {needed} samples of each"
    elif not old:
        reason = "the first median is 0"
    else:
        low, high = ratio_of_medians(before.samples, after.samples, seed=seed)
        verdict = "no difference shown" if low <= 1.0 <= high else "slower" if ratio > 1.0 else "faster"
    return MetricChange(before.name, before.unit, old, new, ratio, low, high, verdict, reason)


def ratio_of_medians(
    before: Sequence[float], after: Sequence[float], *, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval, 95 %, of the median of ``after`` over that of ``before`` (Efron 1979).

    Raises:
        ValueError: no samples, or medians that are 0.
    """
    if not before or not after:
        raise ValueError("a ratio of medians needs samples of both")
    rng = np.random.default_rng(seed)
    old, new = (_resampled_medians(np.asarray(rows, dtype=np.float64), rng) for rows in (before, after))
    if not (old > 0).all():
        raise ValueError("a ratio to a median of 0")
    low, high = np.quantile(new / old, [(1.0 - INTERVAL_LEVEL) / 2.0, (1.0 + INTERVAL_LEVEL) / 2.0])
    return float(low), float(high)


def _resampled_medians(samples: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    # Row by row: ten thousand samples of a sustained run, resampled all at once, would fill the memory.
    count = len(samples)
    return np.array([np.median(samples[rng.integers(0, count, count)]) for _ in range(RESAMPLES)])


def environment_differences(before: BenchmarkReport, after: BenchmarkReport) -> list[str]:
    """In what the machines, the versions and the settings differ, a line each."""
    lines = []
    if before.scenario != after.scenario:
        lines.append(f"scenario: {before.scenario} against {after.scenario}")
    parts = (
        (before.environment, after.environment, {*before.environment, *after.environment} - PASSING),
        (before.config, after.config, set(SETTINGS)),
    )
    for old, new, names in parts:
        for name in sorted(names):
            left, right = old.get(name), new.get(name)
            if left == right:
                continue
            if isinstance(left, dict) and isinstance(right, dict):
                lines += [
                    f"{name} {key}: {_shown(left.get(key))} against {_shown(right.get(key))}"
                    for key in sorted({*left, *right})
                    if left.get(key) != right.get(key)
                ]
            else:
                lines.append(f"{name}: {_shown(left)} against {_shown(right)}")
    return lines


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else "none" if value is None else json.dumps(value)
