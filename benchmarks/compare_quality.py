"""Two models on the same photos, questions and pages: what the second keeps of the first's quality.

``python -m benchmarks.compare_quality FLOAT QUANTIZED DATA`` compares two bundles, packaged or on disk.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.evaluate_answers import answer_photos, answer_scores, exact_matches
from benchmarks.evaluate_captions import caption_figures
from benchmarks.evaluate_pages import RenderedPage, evaluate_pages
from benchmarks.evaluation_data import (
    CaptionRow,
    QuestionRow,
    parse_caption,
    parse_question,
    read_file,
    read_jsonl,
    sample,
)
from benchmarks.evaluation_report import EvaluatedModel, Progress, part_of
from benchmarks.image_store import ImageStore
from benchmarks.run_rows import run_rows
from mobile_multimodal.errors import DataError
from mobile_multimodal.results import GenerationConfig, TaskRequest

__all__ = [
    "CAPTION_FILE",
    "PAGES",
    "PAGE_SEED",
    "QUESTION_FILE",
    "ComparedMetric",
    "QualityComparison",
    "QualityData",
    "compare_quality",
    "load_quality_data",
    "main",
]

CAPTION_FILE = "captions_val.jsonl"
QUESTION_FILE = "vqa_val.jsonl"
PAGES = 20
PAGE_SEED = 0
ERROR_RATES = frozenset({"cer_percent"})
"""Metrics whose small values are good: a share of them that is kept would say nothing."""


@dataclass(frozen=True)
class QualityData:
    """What models are compared on, read and checked; ``pages`` is empty where none are to be read."""

    captions: tuple[CaptionRow, ...]
    questions: tuple[QuestionRow, ...]
    pages: tuple[RenderedPage, ...]
    store: ImageStore


@dataclass(frozen=True)
class ComparedMetric:
    """One metric of both models; the unit is part of its name, CIDEr-D is × 100.

    Raises:
        ValueError: a value that is not finite, or no samples.
    """

    metric: str
    reference: float
    candidate: float
    samples: int

    def __post_init__(self) -> None:
        if self.samples < 1 or not math.isfinite(self.reference) or not math.isfinite(self.candidate):
            raise ValueError(f"{self.metric}: {self.reference} and {self.candidate} of {self.samples}")

    @property
    def is_error_rate(self) -> bool:
        """Whether small values are good."""
        return self.metric in ERROR_RATES

    @property
    def difference(self) -> float:
        """The candidate's value less the reference's."""
        return self.candidate - self.reference

    @property
    def kept_percent(self) -> float | None:
        """The candidate's value in per cent of the reference's; None for an error rate, and of nothing."""
        if self.is_error_rate or self.reference <= 0:
            return None
        return 100.0 * (self.candidate / self.reference)  # 100 exactly where both are equal


@dataclass(frozen=True)
class QualityComparison:
    """Every metric of both models, and the share of photos that both give exactly the same caption."""

    metrics: tuple[ComparedMetric, ...]
    caption_agreement_percent: float
    images: int
    questions: int
    pages: int


def load_quality_data(folder: Path, *, limit: int | None = None, with_pages: bool = True) -> QualityData:
    """Read the validation captions and questions of a folder, find their photos, and draw the pages.

    The photos are files of the folder, or members of its ``.tar`` files. The pages are those that
    ``mmllm eval --task pages`` draws from the same seed.

    Args:
        folder: holds ``captions_val.jsonl``, ``vqa_val.jsonl`` and their photos.
        limit: at most so many photos and so many questions, evenly spaced, and so many pages.
        with_pages: False for models that read no text.

    Raises:
        UsageError: a limit below 1.
        DataError: a missing file, a bad row (named by file and line), a missing photo, or fewer than
            the two photos that CIDEr-D needs.
        MissingExtraError: the packages of the pages' fonts are not installed.
    """
    missing = [name for name in (CAPTION_FILE, QUESTION_FILE) if not (folder / name).is_file()]
    if missing:
        raise DataError(
            f"{folder}: there is no {' and no '.join(missing)}",
            remedy=f"name a folder that holds {CAPTION_FILE}, {QUESTION_FILE} and their photos",
        )
    caption_path, question_path = folder / CAPTION_FILE, folder / QUESTION_FILE
    captions = sample(read_jsonl(read_file(caption_path), str(caption_path), parse_caption), limit)
    questions = sample(read_jsonl(read_file(question_path), str(question_path), parse_question), limit)
    if len(captions) < 2:
        raise DataError(
            f"{caption_path}: CIDEr-D needs at least two photos", remedy="add rows, or raise the limit"
        )
    store = ImageStore(folder)
    photos = [(row.where, row.image) for row in captions]
    for where, image in [*photos, *((row.where, row.image) for row in questions)]:
        if image not in store:
            raise DataError(
                f"{where}: {image} is neither a file of {folder} nor in a tar file there",
                remedy="put the photos, or .tar files that hold them, beside the rows",
            )
    pages: list[RenderedPage] = []
    if with_pages:
        from benchmarks.pages import render_pages  # only here are its fonts needed

        pages.extend(render_pages(PAGES if limit is None else min(PAGES, limit), PAGE_SEED))
    return QualityData(tuple(captions), tuple(questions), tuple(pages), store)


def compare_quality(
    reference: EvaluatedModel,
    candidate: EvaluatedModel,
    data: QualityData,
    *,
    generation: GenerationConfig | None = None,
    progress: Progress | None = None,
) -> QualityComparison:
    """Caption, answer and read the same data with both models.

    ``cider_d`` and ``exact_match_percent`` are the figures that ``mmllm eval`` prints for all rows;
    ``vqa_accuracy_percent`` scores every question by its own measure: min(n/3, 1) where several
    people answered, exact match otherwise. ``cer_percent`` is over the drawn pages, without which it
    is left out.

    Args:
        reference: the model that the other one is held against.
        candidate: the model that is judged.
        data: see :func:`load_quality_data`.
        generation: how text is generated; the models' own default if not given.
        progress: called with the work done and all work of both models, after each batch.

    Raises:
        DataError: a photo that cannot be read, or fewer than two photos.
        UsageError: pages for a model that reads no text.
    """
    work = len(data.captions) + len(data.questions) + len(data.pages)
    first = _measure(reference, data, generation, part_of(progress, 0, 2 * work), work)
    second = _measure(candidate, data, generation, part_of(progress, work, 2 * work), work)
    samples = {"cider_d": len(data.captions), "cer_percent": len(data.pages)}
    same = [left == right for left, right in zip(first.captions, second.captions, strict=True)]
    return QualityComparison(
        metrics=tuple(
            ComparedMetric(name, value, second.values[name], samples.get(name, len(data.questions)))
            for name, value in first.values.items()
        ),
        caption_agreement_percent=100.0 * sum(same) / len(same),
        images=len(data.captions),
        questions=len(data.questions),
        pages=len(data.pages),
    )


@dataclass(frozen=True)
class _Measured:
    """One model's values by metric, and its captions in the order of the rows."""

    values: Mapping[str, float]
    captions: tuple[str, ...]


def _measure(
    model: EvaluatedModel,
    data: QualityData,
    generation: GenerationConfig | None,
    progress: Progress | None,
    work: int,
) -> _Measured:
    results = run_rows(
        model,
        data.captions,
        data.store,
        TaskRequest("caption"),
        batch_size=16,
        generation=generation,
        progress=part_of(progress, 0, work),
    )
    captions = tuple(result.text for result in results)
    figures, _, _ = caption_figures(data.captions, captions)
    [cider_d] = [figure for figure in figures if (figure.metric, figure.group) == ("cider_d", "all")]
    done = len(data.captions)
    answers = answer_photos(model, data.questions, data.store, generation, part_of(progress, done, work))
    scores = answer_scores(data.questions, answers)
    matches = exact_matches(data.questions, answers)
    values = {
        "cider_d": cider_d.value,
        "vqa_accuracy_percent": 100.0 * sum(scores) / len(scores),
        "exact_match_percent": 100.0 * sum(matches) / len(matches),
    }
    if data.pages:
        done += len(data.questions)
        report = evaluate_pages(
            model, data.pages, ["model"], name="drawn pages", progress=part_of(progress, done, work)
        )
        values["cer_percent"] = report.figure("cer_percent", "pages").value
    return _Measured(values, captions)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one line a metric: both values, and what is kept."""
    from mobile_multimodal.model import MobileMultiModalLLM

    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare_quality", description=__doc__)
    parser.add_argument("reference")
    parser.add_argument("candidate")
    parser.add_argument("data", type=Path)
    parser.add_argument("--limit", type=int)
    options = parser.parse_args(arguments)
    data = load_quality_data(options.data, limit=options.limit)
    reference = MobileMultiModalLLM(options.reference, backend="torch")
    candidate = MobileMultiModalLLM(options.candidate, backend="torch")
    found = compare_quality(reference, candidate, data)
    for row in found.metrics:
        kept = "" if row.kept_percent is None else f", {row.kept_percent:.1f} % kept"
        print(f"{row.metric}: {row.reference:.2f} and {row.candidate:.2f} of {row.samples}{kept}")
    print(f"equal captions: {found.caption_agreement_percent:.1f} % of {found.images}")


if __name__ == "__main__":
    main()
