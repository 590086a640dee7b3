"""Benchmark reports as tables for a terminal and for Markdown, and as a file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.benchmark_config import SCENARIOS
from benchmarks.latency_stats import MINIMUM_SAMPLES
from benchmarks.report import BenchmarkReport, Measurement
from mmllm_cli.console import one_line, print_note, print_text
from mmllm_cli.output_files import write_whole
from mmllm_cli.tables import aligned
from mobile_multimodal.errors import InconclusiveError

__all__ = [
    "benchmark_rows",
    "headline",
    "markdown_table",
    "print_benchmark",
    "print_markdown",
    "print_operators",
    "shown_percentile",
    "warn_if_busy",
    "write_reports",
]

HEADER = ("Format", "Recipe", "Size MiB", "Metric", "p50 ms", "p95 ms", "tokens/s", "Peak MiB")
OWN_COLUMNS = frozenset({"tokens_per_s", "peak_rss_caption_mib", "artifact_mib"})


def headline(report: BenchmarkReport) -> str:
    """The metric that the report's scenario is about; its first one with samples where that was not had.

    Raises:
        InconclusiveError: no metric of the report has samples.
    """
    sampled = [name for name, measurement in report.metrics.items() if measurement.samples]
    if not sampled:
        raise InconclusiveError(f"{report.title}: no latency was measured")
    wanted = SCENARIOS[report.scenario].headline if report.scenario in SCENARIOS else sampled[0]
    return wanted if wanted in sampled else sampled[0]


def benchmark_rows(reports: Sequence[BenchmarkReport], metrics: Sequence[str] = ()) -> list[tuple[str, ...]]:
    """The table, header first: one row a latency, the scenario's own first; size and memory stand there.

    ``metrics`` are the only ones to show, where there are any.

    Raises:
        InconclusiveError: a metric that a report does not have, or one that is a single value.
    """
    rows: list[tuple[str, ...]] = [HEADER]
    for report in reports:
        first = headline(report)
        others = [name for name, found in report.metrics.items() if found.samples and name != first]
        for number, name in enumerate(metrics or (first, *others)):
            measurement = report.metric(name)
            _ = measurement.stats  # refuses single values
            latencies = (name, shown_percentile(measurement, 50), shown_percentile(measurement, 95))
            if number:
                rows.append(("", "", "", *latencies, "", ""))
                continue
            size = f"{report.bytes / 2**20:.1f}"
            speed, peak = _value(report, "tokens_per_s"), _value(report, "peak_rss_caption_mib")
            rows.append((report.format, report.recipe, size, *latencies, speed, peak))
    return rows


def _value(report: BenchmarkReport, name: str) -> str:
    return f"{report.metrics[name].center:,.0f}" if name in report.metrics else ""


def shown_percentile(measurement: Measurement, q: int) -> str:
    """A percentile in milliseconds, or how many samples it needs."""
    try:
        return _shown(measurement.stats.percentile(q).value_ms)
    except InconclusiveError:
        return f"inconclusive: needs {MINIMUM_SAMPLES[q]}"


def _shown(ms: float) -> str:
    return f"{ms:.3f}" if ms < 10 else f"{ms:.1f}"


def _settings(report: BenchmarkReport) -> str:
    here, config = report.environment, report.config
    versions = here.get("versions", {})
    runtimes = [name for name in ("onnxruntime", "torch", "ai-edge-litert") if name in versions]
    return (
        f"{report.scenario}, threads {config.get('threads')}, {here.get('cpu')}, {here.get('cores')} cores, "
        f"Python {here.get('python')}, " + ", ".join(f"{name} {versions[name]}" for name in runtimes)
    )


def _details(report: BenchmarkReport) -> list[str]:
    """The headline's percentiles with their intervals, and every metric that is a single value."""
    measurement = report.metric(headline(report))
    lines = [f"{report.title}, {report.artifact_sha256[:12]}"]
    stated = []
    for q in MINIMUM_SAMPLES:
        try:
            found = measurement.stats.percentile(q)
        except InconclusiveError:
            stated.append(f"p{q} inconclusive: needs {MINIMUM_SAMPLES[q]}")
        else:
            low, high = _shown(found.low_ms), _shown(found.high_ms)
            stated.append(f"p{q} {_shown(found.value_ms)} ({low} to {high})")
    lines.append(f"  {measurement.name} of {len(measurement.samples):,}: {', '.join(stated)}")
    if measurement.note:
        lines.append(f"  {measurement.name}: {measurement.note}")
    for name, found_value in report.metrics.items():
        if found_value.value is not None and name not in OWN_COLUMNS:
            note = f" ({found_value.note})" if found_value.note else ""
            lines.append(f"  {name}: {found_value.value:,.4g} {found_value.unit}{note}")
    return lines


def print_benchmark(reports: Sequence[BenchmarkReport], metrics: Sequence[str] = ()) -> None:
    """Print where it ran, the table, and below it the percentiles with their 95 % intervals."""
    print_text(_settings(reports[0]))
    for line in aligned(benchmark_rows(reports, metrics)):
        print_text(line)
    for report in reports:
        print_text("")
        for line in _details(report):
            print_text(line)


def print_operators(traced: Sequence[Mapping[str, Any]]) -> None:
    """Print the dearest operators of each model, one a line."""
    header = ("component", "operator", "calls", "ms", "percent", "name")
    for entry in traced:
        print_text("")
        print_text(f"{entry['model']}: operators that cost most of a caption")
        for line in aligned([header, *map(_operator_cells, entry["rows"])]):
            print_text(f"  {line}")


def _operator_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    numbers = (f"{row['calls']:g}", f"{row['ms']:.3f}", f"{row['percent']:.1f}")
    return (row["component"], row["op"], *numbers, one_line(row["name"])[:80])


def markdown_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """A table in Markdown, header first, columns of numbers to the right."""
    numeric = [all(_is_number(row[column]) for row in rows[1:]) for column in range(len(rows[0]))]
    rule = ["---:" if right else "---" for right in numeric]
    return [f"| {' | '.join(row)} |" for row in (rows[0], rule, *rows[1:])]


def _is_number(cell: str) -> bool:
    return not cell.strip("0123456789.,-")


def print_markdown(reports: Sequence[BenchmarkReport], metrics: Sequence[str] = ()) -> None:
    """Print the table in Markdown, and where it ran."""
    for line in markdown_table(benchmark_rows(reports, metrics)):
        print_text(line)
    print_text("")
    print_text(_settings(reports[0]) + ".")


def warn_if_busy(here: dict[str, Any]) -> None:
    """Say on standard error that the machine was busy in the minute before it began."""
    load, cores = here.get("load_1m"), here.get("cores")
    if load is not None and cores and load > 0.5:
        print_note(f"the machine was busy (load {load} on {cores} cores): compare within this run only")


def write_reports(document: dict[str, Any], path: Path) -> None:
    """Write the document of reports, every sample included."""
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1)
    write_whole(path, f"{text}\n".encode())
