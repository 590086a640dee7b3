"""A quantization report as tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmllm_cli.console import print_note, print_text
from mmllm_cli.tables import aligned
from quantization.recipe import MIXED
from quantization.report import QuantizationReport, TensorReport

__all__ = ["print_quantization"]

MIB = 2**20


def print_quantization(report: QuantizationReport, output: Path | None, *, tensors: bool) -> None:
    """Print one line a component, and with ``tensors`` one a tensor before; ``output`` is None for a dry run.

    The SQNR of a component is the mean over its quantized weights.
    """
    if tensors:
        names = ("component", "tensor", "kind", "bits", "bytes before", "after", "SQNR dB", "algorithm")
        for line in aligned([names, *map(_tensor_cells, report.tensors)]):
            print_text(line)
        print_text("")
    rows = [
        (
            part.component,
            _bits(report.tensors, part.component),
            f"{part.bits_per_weight:.2f}",
            f"{part.bytes_before / MIB:.2f}",
            f"{part.bytes_predicted / MIB:.2f}",
            f"{part.file_bytes / MIB:.2f}" if output else "",
            "" if part.sqnr_db is None else f"{part.sqnr_db:.1f}",
        )
        for part in report.components
    ]
    predicted = sum(part.bytes_predicted for part in report.components)
    total = (
        "all",
        "",
        f"{_mean_bits(report):.2f}",
        f"{report.bytes_before / MIB:.2f}",
        f"{predicted / MIB:.2f}",
        f"{report.bytes_after / MIB:.2f}" if output else "",
        "",
    )
    header = ("component", "bits", "bits/weight", "MiB before", "predicted", "file MiB", "SQNR dB")
    for line in aligned([header, *rows, total]):
        print_text(line)
    if untrained := sum(row.bits == 2 and row.algorithm != "trained" for row in report.tensors):
        # What mixed chooses for one bundle cannot be trained.
        mixed = report.recipe.startswith(f"{MIXED}_")
        better = "ask for more MiB" if mixed else "give --finetune FILE.jsonl"
        print_note(
            f"{untrained} weights in 2 bits were not trained for that, which most models do not survive: "
            f"{better}, or see what is left with --eval-data DIR"
        )
    share = 100 * report.bytes_after / report.bytes_before
    if output is None:
        print_note(f"{report.recipe}: predicted {share:.1f} % of the bytes; nothing was written (--dry-run)")
    else:
        print_note(
            f"{report.recipe}: {share:.1f} % of the bytes; run it with: "
            f"mmllm caption --backend torch --model {output} PICTURE"
        )


def _bits(rows: Sequence[TensorReport], component: str) -> str:
    """The widths that the weights of a component have, narrowest first: ``4+8``."""
    widths = {row.bits for row in rows if row.component == component and row.kind}
    return "+".join(str(bits) for bits in sorted(widths))


def _mean_bits(report: QuantizationReport) -> float:
    size = sum(part.size for part in report.components)
    return sum(part.size * part.bits_per_weight for part in report.components) / size


def _tensor_cells(row: TensorReport) -> Sequence[str]:
    noise = "" if row.sqnr_db is None else f"{row.sqnr_db:.1f}"
    before, after = f"{row.bytes_before:,}", f"{row.bytes_after:,}"
    return (row.component, row.tensor, row.kind, str(row.bits), before, after, noise, row.algorithm)
