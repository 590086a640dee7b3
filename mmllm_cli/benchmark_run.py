"""One call of ``mmllm benchmark``: check everything first, measure, print, write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from benchmarks.benchmark_config import BenchmarkConfig
from benchmarks.report import LATENCY_METRICS, BenchmarkReport, reports_to_json
from benchmarks.run_benchmark import ModelReference, model_references, run_benchmark
from mmllm_cli.benchmark_output import (
    headline,
    print_benchmark,
    print_markdown,
    print_operators,
    warn_if_busy,
    write_reports,
)
from mmllm_cli.console import print_json, progress
from mmllm_cli.output_files import check_can_write
from mmllm_cli.plot_pen import check_plot
from mobile_multimodal.errors import ImageError, UsageError
from mobile_multimodal.model import MobileMultiModalLLM

__all__ = ["BenchmarkRequest", "run_benchmarks"]


@dataclass(frozen=True)
class BenchmarkRequest:
    """The options of ``mmllm benchmark``, as the command line gave them."""

    models: tuple[str, ...]
    backends: tuple[str, ...]
    config: BenchmarkConfig
    image: Path | None
    page: Path | None
    op_tracing: bool
    metrics: tuple[str, ...]
    markdown: bool
    plot: Path | None
    output: Path | None
    as_json: bool


def run_benchmarks(request: BenchmarkRequest) -> int:
    """Measure what was asked for, and show it.

    Raises:
        UsageError: options that do not go together, or a place that cannot be written.
        MmllmError: a model or a picture that cannot be used.
    """
    if request.markdown and request.as_json:
        raise UsageError("--markdown and --json are two forms of one output", remedy="give one of them")
    unknown = [name for name in request.metrics if name not in LATENCY_METRICS]
    if unknown:
        raise UsageError(f"unknown latency {unknown[0]!r}", remedy=f"one of {', '.join(LATENCY_METRICS)}")
    if request.plot is not None:
        check_plot(request.plot)
    if request.output is not None:
        check_can_write(request.output)
    references = model_references(request.models, request.backends)
    if request.op_tracing:
        _check_tracing(references)
    photo = _default_photo() if request.image is None else _bytes_of(request.image)
    page = None if request.page is None else _bytes_of(request.page)
    with progress("measuring", wanted=not request.as_json) as bar:
        reports = run_benchmark(references, request.config, photo, page, bar.show)
    document = reports_to_json(reports)
    if request.op_tracing:
        document["operators"] = _operators(references, reports, request.config.threads, photo)
    if request.output is not None:
        write_reports(document, request.output)
    if request.plot is not None:
        _draw(reports, request.plot)
    warn_if_busy(dict(reports[0].environment))
    if request.as_json:
        print_json(document)
    elif request.markdown:
        print_markdown(reports, request.metrics)
    else:
        print_benchmark(reports, request.metrics)
        print_operators(document.get("operators", ()))
    return 0


def _check_tracing(references: Sequence[ModelReference]) -> None:
    from benchmarks.op_tracing import TRACED_BACKENDS

    silent = [reference.backend for reference in references if reference.backend not in TRACED_BACKENDS]
    if silent:
        raise UsageError(
            f"--op-tracing: {silent[0]} does not time its operators",
            remedy=f"trace with {' or '.join(TRACED_BACKENDS)}",
        )


def _operators(
    references: Sequence[ModelReference], reports: Sequence[BenchmarkReport], threads: int, photo: bytes
) -> list[dict[str, Any]]:
    """The ten dearest operators of each model, in sessions of their own, after all else was measured."""
    from benchmarks.op_tracing import dearest_operators

    traced = []
    for reference, report in zip(references, reports, strict=True):
        model = MobileMultiModalLLM(reference.model, backend=reference.backend, threads=threads)
        rows = dearest_operators(model, photo, threads=threads)
        traced.append({"model": report.title, "rows": [vars(row) for row in rows]})
    return traced


def _draw(reports: Sequence[BenchmarkReport], path: Path) -> None:
    from mmllm_cli.benchmark_plot import draw_latency
    from mmllm_cli.output_files import write_whole

    write_whole(path, draw_latency(reports, headline(reports[0])))


def _default_photo() -> bytes:
    return files("exporters").joinpath("pictures", "dog.jpg").read_bytes()


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise ImageError(f"{path} cannot be read: {exc.strerror}", remedy="check the path") from exc
