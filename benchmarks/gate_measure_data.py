"""Measures of a model on the user's own photos and questions: what ``--eval-data`` adds."""

from __future__ import annotations

from benchmarks.compare_quality import PAGE_SEED, QualityData
from benchmarks.evaluate_answers import answer_photos, answer_scores
from benchmarks.evaluate_captions import caption_figures
from benchmarks.evaluate_pages import evaluate_pages
from benchmarks.gate import Measured
from benchmarks.gate_subject import GateSubject
from benchmarks.run_rows import run_rows
from mobile_multimodal.errors import InconclusiveError
from mobile_multimodal.results import TaskRequest

__all__ = ["measure_cider_d", "measure_data_page_cer", "measure_vqa_accuracy"]


def _data(subject: GateSubject) -> QualityData:
    if subject.evaluation is None:
        raise InconclusiveError("there is no data", remedy="give --eval-data DIR")
    return subject.evaluation


def measure_cider_d(subject: GateSubject) -> Measured:
    """CIDEr-D × 100 of the captions of all photos of ``captions_val.jsonl``.

    Raises:
        InconclusiveError: no data.
        DataError: a photo that cannot be read.
    """
    data = _data(subject)
    results = run_rows(subject.loaded, data.captions, data.store, TaskRequest("caption"), batch_size=16)
    figures, _, _ = caption_figures(data.captions, [result.text for result in results])
    [figure] = [row for row in figures if (row.metric, row.group) == ("cider_d", "all")]
    return Measured(figure.value, note=_interval(figure.low, figure.high, f"{figure.samples} photos"))


def measure_vqa_accuracy(subject: GateSubject) -> Measured:
    """Accuracy in per cent on ``vqa_val.jsonl``: min(n/3, 1) where several people answered, else equality.

    Raises:
        InconclusiveError: no data, or no questions.
        DataError: a photo that cannot be read.
    """
    data = _data(subject)
    if not data.questions:
        raise InconclusiveError("the data holds no questions")
    scores = answer_scores(
        data.questions, answer_photos(subject.loaded, data.questions, data.store, None, None)
    )
    return Measured(100.0 * sum(scores) / len(scores), note=f"{len(scores)} questions")


def measure_data_page_cer(subject: GateSubject) -> Measured:
    """Characters read wrongly, in per cent, on the pages that ``mmllm quantize --eval-data`` draws.

    Raises:
        InconclusiveError: no data, or a model that reads no text.
        MissingExtraError: the packages of the pages' fonts are not installed.
    """
    _data(subject)
    if subject.loaded.config.ocr is None:
        raise InconclusiveError("this model reads no text", remedy="leave the check out")
    from benchmarks.pages import render_pages  # only here are its fonts needed

    report = evaluate_pages(
        subject.loaded, render_pages(subject.effort.data_pages, PAGE_SEED), ["model"], name="drawn pages"
    )
    figure = report.figure("cer_percent", "pages")
    return Measured(figure.value, note=_interval(figure.low, figure.high, f"{figure.samples} pages"))


def _interval(low: float | None, high: float | None, of: str) -> str:
    return of if low is None or high is None else f"95 % interval {low:.4g} to {high:.4g} of {of}"
