"""One call of ``mmllm benchmark``: check everything first, measure, print, write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from benchmarks.benchmark_config import BenchmarkConfig
from benchmarks.report import LATENCY_METRICS, BenchmarkReport, reports_to_json
from benchmarks.run_benchmark import model_references, run_benchmark
from mmllm_cli.benchmark_output import (
    headline,
    print_benchmark,
    print_markdown,
    warn_if_busy,
    write_reports,
)
from mmllm_cli.console import print_json, progress
from mmllm_cli.output_files import check_can_write
from mmllm_cli.plot_pen import check_plot
from mobile_multimodal.errors import ImageError, UsageError

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
    device: str | None
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
    photo = _default_photo() if request.image is None else _bytes_of(request.image)
    page = None if request.page is None else _bytes_of(request.page)
    with progress("measuring", wanted=not request.as_json) as bar:
        reports = run_benchmark(references, request.config, photo, page, bar.show)
    document = reports_to_json(reports)
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
    return 0


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
