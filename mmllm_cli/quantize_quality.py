"""What ``mmllm quantize --eval-data`` does: the float bundle and the quantized one on the same data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.compare_quality import (
    PAGE_SEED,
    ComparedMetric,
    QualityComparison,
    QualityData,
    compare_quality,
    load_quality_data,
)
from mmllm_cli.console import print_note, print_text
from mmllm_cli.tables import aligned
from mobile_multimodal.bundle import ModelBundle
from mobile_multimodal.model import MobileMultiModalLLM

__all__ = ["QualityCheck", "prepare_quality_check", "print_quality", "quality_json", "run_quality_check"]

AGREEMENT = "caption_agreement_percent"


@dataclass(frozen=True)
class QualityCheck:
    """The float model, opened, and the data that it and the quantized one will be measured on."""

    model: MobileMultiModalLLM
    data: QualityData


def prepare_quality_check(source: ModelBundle, folder: Path, limit: int | None) -> QualityCheck:
    """Read the data and open the float bundle with torch, so that nothing is missing later.

    A model that reads no text is not asked to read pages.

    Raises:
        DataError: a file or a photo is missing, or a row is bad.
        UsageError: an artifact, which torch cannot run, or a limit below 1.
        BundleError: weights that do not fit the configuration.
        MissingExtraError: torch, or the fonts of drawn pages, are not installed.
    """
    data = load_quality_data(folder, limit=limit, with_pages=source.config.ocr is not None)
    return QualityCheck(MobileMultiModalLLM(source.directory, backend="torch"), data)


def run_quality_check(
    check: QualityCheck, output: Path, progress: Callable[[int, int], None]
) -> QualityComparison:
    """Measure the float model and the quantized bundle at ``output``, both with torch.

    Raises:
        DataError: a photo that cannot be read.
        BundleError: the quantized bundle cannot be run.
    """
    quantized = MobileMultiModalLLM(output, backend="torch")
    return compare_quality(check.model, quantized, check.data, progress=progress)


def quality_json(comparison: QualityComparison) -> dict[str, Any]:
    """The comparison as plain JSON values: both values of every metric, and how many were measured.

    ``kept_percent`` is None for an error rate, and where the float model scores nothing.
    """
    return {
        "images": comparison.images,
        "questions": comparison.questions,
        "pages": comparison.pages,
        "page_seed": PAGE_SEED,
        "metrics": {
            row.metric: {
                "float": row.reference,
                "quantized": row.candidate,
                "kept_percent": row.kept_percent,
                "difference": row.difference,
            }
            for row in comparison.metrics
        },
        AGREEMENT: comparison.caption_agreement_percent,
    }


def print_quality(comparison: QualityComparison) -> None:
    """Print one line a metric: both values, the share that is kept, or for an error rate the points lost."""
    header = ("metric", "float", "quantized", "kept %", "points", "samples")
    same = f"{comparison.caption_agreement_percent:.1f}"
    agreement = (AGREEMENT, "", "", same, "", f"{comparison.images:,}")
    print_text("")
    for line in aligned([header, *map(_cells, comparison.metrics), agreement]):
        print_text(line)
    if not comparison.pages:
        print_note("no pages were read: this model reads no text")


def _cells(row: ComparedMetric) -> Sequence[str]:
    kept = "" if row.kept_percent is None else f"{row.kept_percent:.1f}"
    points = f"{row.difference:.2f}" if row.is_error_rate else ""
    return (row.metric, f"{row.reference:.2f}", f"{row.candidate:.2f}", kept, points, f"{row.samples:,}")
