"""From models to reports: open them, run the scenario, and write down what ran where."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.benchmark_config import BenchmarkConfig
from benchmarks.cold_process import ColdRun, run_cold
from benchmarks.environment import environment
from benchmarks.evaluation_report import Progress
from benchmarks.report import BenchmarkReport, Measurement
from benchmarks.scenarios import Metrics, multi_stream, reading, single_stream, sustained
from benchmarks.stages import StagedModel, drawn_page
from benchmarks.throughput import offline, server
from benchmarks.timing import SamplingPlan, take_samples
from benchmarks.workers import WorkerPool
from mobile_multimodal.bundle import TARGETS, find_model, packaged_models
from mobile_multimodal.errors import InconclusiveError, UsageError
from mobile_multimodal.image import load_image
from mobile_multimodal.manifest import Manifest
from mobile_multimodal.model import MobileMultiModalLLM

__all__ = ["ModelReference", "cold_metrics", "model_references", "run_benchmark"]


@dataclass(frozen=True)
class ModelReference:
    """A packaged model's name (None for the default) or a directory, and the backend that runs it."""

    model: str | None
    backend: str


def model_references(models: Sequence[str], backends: Sequence[str] = ()) -> tuple[ModelReference, ...]:
    """Which backend runs which model: a directory's own, or for packaged models those that are named.

    Args:
        models: packaged names and directories; the default model if there are none.
        backends: for packaged models, each with each; ``onnxruntime`` if there are none.

    Raises:
        UsageError: an unknown backend or model, or backends for a directory that none of them runs.
        BundleError: a directory that is no model.
    """
    unknown = [name for name in backends if name not in TARGETS]
    if unknown:
        raise UsageError(f"unknown backend {unknown[0]!r}", remedy=f"one of {', '.join(TARGETS)}")
    own = {target: backend for backend, target in TARGETS.items()}
    references: list[ModelReference] = []
    named = list(backends) or ["onnxruntime"]
    if not models:
        return tuple(ModelReference(None, backend) for backend in named)
    for model in models:
        if model in packaged_models():
            references += [ModelReference(model, backend) for backend in named]
            continue
        target = Manifest.read(find_model(model, "torch")).target
        if target not in own:
            raise UsageError(f"{model} is for {target}, which no backend runs")
        if backends and own[target] not in backends:
            raise UsageError(f"{model} is for {own[target]}, not for {', '.join(backends)}")
        references.append(ModelReference(model, own[target]))
    return tuple(references)


def run_benchmark(
    references: Sequence[ModelReference],
    config: BenchmarkConfig,
    photo: bytes,
    page: bytes | None = None,
    progress: Progress | None = None,
) -> tuple[BenchmarkReport, ...]:
    """Measure every model under one scenario → one report each, in their order.

    Args:
        references: what to measure.
        config: how.
        photo: the bytes of the picture file that is captioned.
        page: the bytes of the picture file whose text is read; a drawn page if not given.
        progress: called with runs done and runs to do of the part at hand.

    Raises:
        UsageError: no such model or backend, or a backend that cannot run the model.
        BundleError: a model that cannot be trusted or run.
        ImageError: a picture that cannot be used.
        InconclusiveError: a process of its own that failed.
    """
    page = drawn_page() if page is None else page
    pictures = {"photo": _facts(photo, "the photo"), "page": _facts(page, "the page")}
    here = environment()
    models = [
        MobileMultiModalLLM(reference.model, backend=reference.backend, threads=config.threads)
        for reference in references
    ]
    staged = [StagedModel(model) for model in models]
    found = cold_metrics(references, staged, config, photo, page, progress)
    if config.scenario == "single-stream":
        scenario = single_stream(staged, photo, config, progress)
        read = reading(staged, page, config, progress)
        for metrics, captions, pages in zip(found, scenario, read, strict=True):
            metrics.update(captions | pages)
        if config.roofline:
            for metrics, model in zip(found, models, strict=True):
                metrics.update(_roofline(model, metrics, config.threads))
    elif config.scenario == "multi-stream":
        for metrics, queries in zip(found, multi_stream(staged, photo, config, progress), strict=True):
            metrics.update(queries)
    else:
        for metrics, reference in zip(found, references, strict=True):
            metrics.update(_all_cores(reference, config, photo, progress))
    if config.sustained_secs:
        for metrics, stages in zip(found, staged, strict=True):
            metrics.update(sustained(stages, photo, config.sustained_secs, progress))
    return tuple(
        _report(model, {**config.to_json(), "backend": reference.backend, **pictures}, here, metrics)
        for reference, model, metrics in zip(references, models, found, strict=True)
    )


def _roofline(model: MobileMultiModalLLM, metrics: Metrics, threads: int) -> Metrics:
    """How near the stages come to the machine's best, from medians that their samples state."""
    medians = {}
    for name in ("encode_ms", "decode_step_ms"):
        try:
            medians[name] = metrics[name].stats.percentile(50).value_ms if name in metrics else None
        except InconclusiveError:
            medians[name] = None
    if not any(medians.values()):
        return {}
    from benchmarks.roofline import roofline_metrics

    return roofline_metrics(model, medians["encode_ms"], medians["decode_step_ms"], threads)


def _all_cores(
    reference: ModelReference, config: BenchmarkConfig, photo: bytes, progress: Progress | None
) -> Metrics:
    """Models in turns would idle the cores between them, so here one follows the other."""
    with WorkerPool(reference.model, reference.backend, config.threads, photo, config.warmup) as pool:
        return offline(pool, config) if config.scenario == "offline" else server(pool, config, progress)


def cold_metrics(
    references: Sequence[ModelReference],
    staged: Sequence[StagedModel],
    config: BenchmarkConfig,
    photo: bytes,
    page: bytes,
    progress: Progress | None = None,
) -> list[Metrics]:
    """What processes of their own take to load a model and caption once, and the most memory they held.

    ``peak_rss_caption_mib`` is the highest of those that caption; ``peak_rss_mib`` is of one more that
    also reads a page, where the model can and pages are read at all.
    """
    if not config.cold_runs:
        return [{} for _ in references]
    subjects = [
        functools.partial(run_cold, reference.model, reference.backend, config.threads, photo)
        for reference in references
    ]
    plan = SamplingPlan(config.cold_runs, max_secs=config.max_secs)
    found = []
    for subject, model, runs in zip(subjects, staged, take_samples(subjects, plan, progress), strict=True):
        metrics = {
            name: Measurement(name, "ms", tuple(getattr(run, field) for run in runs))
            for name, field in {
                "cold_process_ms": "process_ms",
                "load_ms": "load_ms",
                "first_inference_ms": "first_inference_ms",
            }.items()
        }
        peaks = [run.peak_rss_mib for run in runs if run.peak_rss_mib is not None]
        if peaks:
            highest = _peak("peak_rss_caption_mib", max(peaks), "after one caption")
            metrics[highest.name] = highest
            reads = model.can_read and config.ocr_runs > 0
            last: ColdRun | None = subject(page) if reads else None
            whole, what = max(peaks), "after one caption"
            if last is not None and last.peak_rss_mib is not None:
                whole, what = max(whole, last.peak_rss_mib), "after one caption and one page"
            metrics["peak_rss_mib"] = _peak("peak_rss_mib", whole, what)
        found.append(metrics)
    return found


def _peak(name: str, value: float, note: str) -> Measurement:
    return Measurement(name, "MiB", value=value, note=f"{note}, in a process of its own")


def _facts(picture: bytes, source: str) -> dict[str, Any]:
    height, width, _ = load_image(picture, source=source).pixels.shape
    return {"sha256": hashlib.sha256(picture).hexdigest(), "bytes": len(picture), "size": [width, height]}


def _report(
    model: MobileMultiModalLLM, config: dict[str, Any], here: dict[str, Any], metrics: Metrics
) -> BenchmarkReport:
    manifest = model.bundle.manifest
    size = sum(entry.bytes for entry in manifest.files.values())
    metrics["artifact_mib"] = Measurement("artifact_mib", "MiB", value=size / 2**20)
    return BenchmarkReport(
        artifact_sha256=model.sha256,
        model=model.name,
        format=manifest.target,
        recipe=model.recipe,
        bytes=size,
        scenario=config["scenario"],
        config=config,
        environment=here,
        metrics=metrics,
    )
