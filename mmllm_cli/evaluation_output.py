"""An evaluation report as a table for people and as a file."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.evaluation_report import EvaluationReport, Figure
from mmllm_cli.console import print_note, print_text
from mmllm_cli.output_files import write_whole
from mmllm_cli.tables import aligned

__all__ = ["print_figures", "write_report"]


def print_figures(report: EvaluationReport) -> None:
    """Print one line per figure: value, 95 % interval, number of samples."""
    print_text(
        f"{report.task} on {report.data}: {report.images:,} pictures, {report.seconds:.1f} s, "
        f"model {report.model} ({report.recipe}, {report.sha256[:12]})"
    )
    header = ("metric", "group", "system", "value", "95 % interval", "samples")
    for line in aligned([header, *(_cells(figure) for figure in report.figures)]):
        print_text(line)
    for note in report.notes:
        print_note(note)


def write_report(report: EvaluationReport, path: Path) -> None:
    """Write the report with every output as JSON."""
    text = json.dumps(report.to_json(rows=True), ensure_ascii=False, allow_nan=False, indent=1)
    write_whole(path, f"{text}\n".encode())


def _cells(figure: Figure) -> tuple[str, ...]:
    interval = "" if figure.low is None or figure.high is None else f"{figure.low:.4g} to {figure.high:.4g}"
    return (
        figure.metric,
        figure.group,
        figure.system,
        f"{figure.value:.4g}",
        interval,
        f"{figure.samples:,}",
    )
