"""A comparison of benchmark reports as a table, and the exit code that it deserves."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.compare import MetricChange, ReportChange
from mmllm_cli.console import print_note, print_text
from mmllm_cli.tables import aligned
from mobile_multimodal.errors import GateFailedError

__all__ = ["check_slower", "print_comparison", "warn_of_differences"]


def print_comparison(changes: Sequence[ReportChange]) -> None:
    """Print one line a metric: both values, the ratio, its 95 % interval, and the verdict."""
    for number, change in enumerate(changes):
        if number:
            print_text("")
        same = change.before == change.after
        print_text(change.before if same else f"{change.before} against {change.after}")
        header = ("metric", "unit", "A", "B", "B/A", "95 % interval", "verdict")
        for line in aligned([header, *(_cells(row) for row in change.metrics)]):
            print_text(line)


def _cells(row: MetricChange) -> tuple[str, ...]:
    interval = "" if row.low is None or row.high is None else f"{row.low:.3f} to {row.high:.3f}"
    verdict = row.verdict if row.reason is None else f"{row.verdict}: {row.reason}"
    return (
        row.metric,
        row.unit,
        f"{row.before:.4g}",
        f"{row.after:.4g}",
        f"{row.ratio:.3f}",
        interval,
        verdict,
    )


def warn_of_differences(changes: Sequence[ReportChange]) -> None:
    """Say on standard error in what the machines or settings differ, and which metrics one side lacks."""
    for line in dict.fromkeys(line for change in changes for line in change.warnings):
        print_note(f"the runs differ: {line}")
    for change in changes:
        if change.only_one:
            print_note(f"{change.after}: in one report only: {', '.join(change.only_one)}")


def check_slower(changes: Sequence[ReportChange], percent: float | None) -> None:
    """Fail where a latency is slower by more than so many per cent; None never fails.

    Raises:
        GateFailedError: the message names every such latency.
    """
    if percent is None:
        return
    slower = [
        f"{change.after}: {row.metric} {100 * (row.ratio - 1):+.1f} %"
        for change in changes
        for row in change.metrics
        if row.is_slower_by(percent)
    ]
    if slower:
        raise GateFailedError(f"slower by more than {percent:g} %: {'; '.join(slower)}")
