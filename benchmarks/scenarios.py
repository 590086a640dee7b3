"""The scenarios of one process: one picture after another, and queries of several pictures."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Mapping, Sequence

from benchmarks.benchmark_config import BenchmarkConfig
from benchmarks.evaluation_report import Progress
from benchmarks.report import Measurement
from benchmarks.stages import StagedModel, StageSample
from benchmarks.timing import SamplingPlan, elapsed_ms, take_samples

__all__ = ["Metrics", "multi_stream", "reading", "single_stream", "stage_metrics", "sustained"]

Metrics = dict[str, Measurement]

FULL_PART_SECS = 60.0


def stage_metrics(samples: Sequence[StageSample], notes: Mapping[str, str] | None = None) -> Metrics:
    """One metric for every stage that every sample has."""
    names = [name for name in samples[0].stages_ms if all(name in row.stages_ms for row in samples)]
    return {
        name: Measurement(
            name, "ms", tuple(row.stages_ms[name] for row in samples), note=(notes or {}).get(name)
        )
        for name in names
    }


def single_stream(
    models: Sequence[StagedModel], photo: bytes, config: BenchmarkConfig, progress: Progress | None = None
) -> list[Metrics]:
    """Caption one picture after another, each model in its turn → the stages' times by model.

    ``tokens_per_s`` follows from the median of ``decode_ms_per_token``: prefill does not count.
    """
    subjects = [functools.partial(model.caption, photo) for model in models]
    found = []
    for samples in take_samples(subjects, _plan(config, config.runs), progress):
        last = samples[-1]
        metrics = stage_metrics(samples, {"caption_ms": f"{last.tokens} tokens: {last.text}"})
        if "decode_ms_per_token" in metrics:
            rate = 1000.0 / metrics["decode_ms_per_token"].center
            metrics["tokens_per_s"] = Measurement("tokens_per_s", "tokens/s", value=rate)
        found.append(metrics)
    return found


def multi_stream(
    models: Sequence[StagedModel], photo: bytes, config: BenchmarkConfig, progress: Progress | None = None
) -> list[Metrics]:
    """Caption queries of ``batch_size`` pictures, one query after another → ``query_ms`` by model."""
    subjects = [functools.partial(model.caption_batch, [photo] * config.batch) for model in models]
    found = []
    for samples in take_samples(subjects, _plan(config, config.runs), progress):
        note = f"{config.batch} pictures a query, {samples[-1].tokens} tokens"
        metrics = stage_metrics(samples, {"query_ms": note})
        seconds = statistics.median(metrics["query_ms"].samples) / 1000.0
        for name, unit, count in (
            ("images_per_s", "images/s", config.batch),
            ("tokens_per_s", "tokens/s", samples[-1].tokens),
        ):
            metrics[name] = Measurement(name, unit, value=count / seconds, note="of the median query")
        found.append(metrics)
    return found


def reading(
    models: Sequence[StagedModel], page: bytes, config: BenchmarkConfig, progress: Progress | None = None
) -> list[Metrics]:
    """Read a page with every model that can; the others have no metrics."""
    readers = [model for model in models if model.can_read]
    if not readers or not config.ocr_runs:
        return [{} for _ in models]
    subjects = [functools.partial(model.read, page) for model in readers]
    plan = SamplingPlan(config.ocr_runs, min(1, config.warmup), max_secs=config.max_secs)
    read = iter(take_samples(subjects, plan, progress))
    found: list[Metrics] = []
    for model in models:
        if not model.can_read:
            found.append({})
            continue
        samples = next(read)
        lines = len(samples[-1].text.splitlines())
        found.append(stage_metrics(samples, {"ocr_ms": f"{lines} lines"}))
    return found


def sustained(model: StagedModel, photo: bytes, seconds: float, progress: Progress | None = None) -> Metrics:
    """Caption without a pause; the median of the last minute against that of the first, in per cent.

    Where there are less than two minutes the parts are halves, and the note says so.
    """
    plan = SamplingPlan(runs=1, min_secs=seconds)
    started = time.perf_counter_ns()
    [rows] = take_samples([lambda: (model.caption(photo), elapsed_ms(started))], plan, progress)
    samples = tuple(row.stages_ms["caption_ms"] for row, _ in rows)
    ends = [end / 1000.0 for _, end in rows]
    part = min(FULL_PART_SECS, seconds / 2.0)
    first = [ms for ms, end in zip(samples, ends, strict=True) if end <= part]
    last = [ms for ms, end in zip(samples, ends, strict=True) if end > ends[-1] - part]
    metrics = {"sustained_ms": Measurement("sustained_ms", "ms", samples, note=f"{seconds:g} s on end")}
    if first and last:
        drift = 100.0 * (statistics.median(last) / statistics.median(first) - 1.0)
        note = f"median of the last {part:g} s against the first {part:g} s"
        metrics["sustained_drift_percent"] = Measurement(
            "sustained_drift_percent", "%", value=drift, note=note
        )
    return metrics


def _plan(config: BenchmarkConfig, runs: int) -> SamplingPlan:
    return SamplingPlan(runs, config.warmup, config.min_secs, config.max_secs)
