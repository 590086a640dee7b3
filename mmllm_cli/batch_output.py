"""What a run of ``mmllm batch`` leaves: the rows as one file, and what is said of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmllm_cli.batch_partial import json_line
from mmllm_cli.batch_worker import Row
from mmllm_cli.console import print_error, print_json, print_note
from mmllm_cli.output_files import put_in_place
from mobile_multimodal.errors import UsageError

__all__ = ["FORMATS", "BatchSummary", "output_format", "print_summary", "write_results"]

FORMATS = ("jsonl", "parquet")


@dataclass(frozen=True)
class BatchSummary:
    """What was done: ``computed`` rows in this run, in ``seconds`` from the start of its workers.

    ``failed`` counts the rows with an error, those of earlier runs too; ``first_error`` is one of them.
    """

    output: str
    format: str
    rows: int
    failed: int
    computed: int
    seconds: float
    images_per_s: float | None
    engine: str
    workers: int
    tasks: tuple[str, ...]
    model: str
    sha256: str
    first_error: str | None


def output_format(output: Path, asked: str | None) -> str:
    """The format by name, or by the suffix of the output.

    Raises:
        UsageError: an unknown name, or a suffix that names no format.
    """
    found = asked if asked is not None else output.suffix.lower().removeprefix(".")
    if found in FORMATS:
        return found
    if asked is not None:
        raise UsageError(f"unknown format {asked!r}", remedy=f"one of {', '.join(FORMATS)}")
    raise UsageError(
        f"{output} names no format", remedy=f"give it the suffix .{' or .'.join(FORMATS)}, or --format"
    )


def write_results(output: Path, rows: Iterable[Row], written_as: str, *, several_tasks: bool) -> None:
    """Write the rows under a temporary name beside the output, then rename it.

    Raises:
        MmllmError: the disk is full or the file cannot be written.
    """
    with put_in_place(output) as file:
        if written_as == "parquet":
            from mmllm_cli.batch_parquet import write_parquet

            write_parquet(file, rows, several_tasks=several_tasks)
        else:
            file.writelines(map(json_line, rows))


def print_summary(summary: BatchSummary, *, as_json: bool) -> None:
    """The throughput and the failures on standard error; with JSON the document on standard output."""
    kept = summary.rows - summary.computed
    speed = "" if summary.images_per_s is None else f": {summary.images_per_s:.1f} images/s"
    print_note(
        f"{summary.computed:,} images in {summary.seconds:.1f} s{speed}"
        f" ({summary.engine}, {summary.workers} workers)"
        + (f"; {kept:,} were kept from before" if kept else "")
    )
    if summary.failed:
        print_error(
            f"{summary.failed:,} of {summary.rows:,} rows have an error in {summary.output}; "
            f"the first: {summary.first_error}"
        )
    if as_json:
        print_json(_document(summary))


def _document(summary: BatchSummary) -> dict[str, Any]:
    return {**asdict(summary), "seconds": round(summary.seconds, 3), "tasks": list(summary.tasks)}
