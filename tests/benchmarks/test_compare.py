"""Two reports of known latencies: what is faster, slower, and not shown to differ."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from benchmarks.compare import compare_reports, environment_differences, pair_reports, ratio_of_medians
from benchmarks.report import BenchmarkReport, Measurement
from mobile_multimodal.errors import UsageError


def latencies(median: float, *, count: int = 200, seed: int = 0) -> tuple[float, ...]:
    rng = np.random.default_rng(seed)
    return tuple((median * rng.lognormal(sigma=0.05, size=count)).tolist())


def report_of(*metrics: Measurement, **changes: Any) -> BenchmarkReport:
    fields: dict[str, Any] = {
        "artifact_sha256": "00" * 32,
        "model": "some",
        "format": "onnx",
        "recipe": "float16",
        "bytes": 1000,
        "scenario": "single-stream",
        "config": {"threads": 1},
        "environment": {"cpu": "one", "load_1m": 0.1, "versions": {"numpy": "2.4", "torch": "2.13"}},
        "metrics": {metric.name: metric for metric in metrics},
    }
    return BenchmarkReport(**{**fields, **changes})


def of_samples(median: float, **options: int) -> BenchmarkReport:
    return report_of(Measurement("caption_ms", "ms", latencies(median, **options)))


@pytest.mark.parametrize(
    ("median", "verdict"), [(20.0, "no difference shown"), (22.0, "slower"), (18.0, "faster")]
)
def test_verdicts_of_latencies(median: float, verdict: str) -> None:
    [change] = compare_reports(of_samples(20.0, seed=1), of_samples(median, seed=2)).metrics
    assert change.verdict == verdict
    assert change.ratio == pytest.approx(median / 20.0, rel=0.02)
    assert change.low is not None
    assert change.high is not None
    assert change.low < change.ratio < change.high
    assert change.reason is None


def test_a_report_does_not_differ_from_itself() -> None:
    report = of_samples(20.0)
    change = compare_reports(report, report)
    assert (change.metrics[0].ratio, change.metrics[0].verdict) == (1.0, "no difference shown")
    assert (change.warnings, change.only_one) == ((), ())


def test_slower_by_more_than_a_limit_only_with_the_whole_interval() -> None:
    [change] = compare_reports(of_samples(20.0, seed=1), of_samples(22.0, seed=2)).metrics
    assert change.low is not None
    beyond = 100 * (change.low - 1)
    assert change.is_slower_by(beyond - 0.1)
    assert not change.is_slower_by(beyond + 0.1)
    assert beyond < 10 < 100 * (change.ratio - 1) + 2
    [quicker] = compare_reports(of_samples(20.0, seed=1), of_samples(18.0, seed=2)).metrics
    assert not quicker.is_slower_by(0)


def test_few_samples_and_single_values_are_not_judged() -> None:
    [few] = compare_reports(of_samples(20.0, count=10), of_samples(40.0, count=10)).metrics
    assert (few.verdict, few.reason) == ("not judged", "inconclusive: needs 11 samples of each")
    size = report_of(Measurement("artifact_mib", "MiB", value=10.0))
    larger = report_of(Measurement("artifact_mib", "MiB", value=15.0))
    [change] = compare_reports(size, larger).metrics
    assert (change.ratio, change.verdict, change.low) == (1.5, "not judged", None)
    assert not change.is_slower_by(1)


def test_the_interval_holds_the_true_ratio_as_often_as_it_says() -> None:
    held = 0
    for seed in range(120):
        before = latencies(20.0, count=60, seed=2 * seed)
        low, high = ratio_of_medians(before, latencies(30.0, count=60, seed=2 * seed + 1), seed=seed)
        held += low <= 1.5 <= high
    assert held / 120 >= 0.88  # 0.95 promised, three standard errors of 120 trials are 0.06


def test_what_makes_runs_differ_is_told() -> None:
    before = report_of()
    environment = {"cpu": "two", "load_1m": 5.0, "versions": {"numpy": "2.5", "torch": "2.13"}}
    after = report_of(environment=environment, config={"threads": 2}, scenario="offline")
    assert environment_differences(before, after) == [
        "scenario: single-stream against offline",
        "cpu: one against two",
        "versions numpy: 2.4 against 2.5",
        "threads: 1 against 2",
    ]


def test_metrics_of_one_report_only_are_named() -> None:
    before = report_of(Measurement("a_ms", "ms", (1.0,)), Measurement("b_ms", "ms", (1.0,)))
    after = report_of(Measurement("b_ms", "ms", (1.0,)), Measurement("c_ms", "ms", (1.0,)))
    change = compare_reports(before, after)
    assert [row.metric for row in change.metrics] == ["b_ms"]
    assert change.only_one == ("a_ms", "c_ms")


def test_reports_are_paired_by_what_they_are_of() -> None:
    one, other = of_samples(1.0), dataclasses.replace(of_samples(2.0), recipe="int8")
    assert pair_reports([one], [other]) == [(one, other)]
    assert pair_reports([one, other], [other, one]) == [(one, one), (other, other)]
    assert pair_reports([one, other], [one]) == [(one, one)]
    with pytest.raises(UsageError, match="no report in common"):
        pair_reports([one, dataclasses.replace(one, model="x")], [other])
    with pytest.raises(UsageError, match="several reports of some onnx float16 single-stream"):
        pair_reports([one, one], [other])


def test_no_ratio_without_samples() -> None:
    with pytest.raises(ValueError, match="samples of both"):
        ratio_of_medians([], [1.0])
    with pytest.raises(ValueError, match="median of 0"):
        ratio_of_medians([0.0], [1.0])
