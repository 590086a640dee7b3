"""Measures of what a model says: of photos that are packaged, and of pages drawn now."""

from __future__ import annotations

from benchmarks.answer_metrics import normalize_answer
from benchmarks.evaluate_pages import evaluate_pages
from benchmarks.gate import Measured
from benchmarks.gate_pictures import GATE_PICTURES, names_any
from benchmarks.gate_subject import GateSubject
from mobile_multimodal.errors import InconclusiveError
from mobile_multimodal.results import TaskRequest

__all__ = [
    "measure_distinct_captions",
    "measure_expected_words",
    "measure_page_cer",
    "measure_right_answers",
]


def measure_expected_words(subject: GateSubject) -> Measured:
    """Per cent of the packaged photos whose caption has a word that it must have."""
    wrong = [
        f"{picture.file}: {result.text}"
        for picture, result in zip(GATE_PICTURES, subject.captions, strict=True)
        if not names_any(result.text, picture.words)
    ]
    total = len(GATE_PICTURES)
    note = f"without its word {'; '.join(wrong)}" if wrong else f"{total} of {total} photos"
    return Measured(100.0 * (total - len(wrong)) / total, note=note)


def measure_distinct_captions(subject: GateSubject) -> Measured:
    """Per cent of the packaged photos' captions that are different ones."""
    captions = [result.text for result in subject.captions]
    note = f"{len(set(captions))} captions of {len(captions)} photos"
    if len(set(captions)) < len(captions):
        note += f", most often {max(captions, key=captions.count)}"
    return Measured(100.0 * len(set(captions)) / len(captions), note=note)


def measure_right_answers(subject: GateSubject) -> Measured:
    """Per cent of the questions about the packaged photos that are answered rightly."""
    total, wrong = 0, []
    for picture, image in zip(GATE_PICTURES, subject.pictures, strict=True):
        requests = [TaskRequest("vqa", question) for question, _ in picture.questions]
        [results] = subject.loaded.run([image], requests)
        for (question, answers), result in zip(picture.questions, results, strict=True):
            total += 1
            if normalize_answer(result.text) not in answers:
                wrong.append(f"{picture.file}: {question} {result.text!r}")
    note = f"wrong {'; '.join(wrong)}" if wrong else f"{total} of {total} questions"
    return Measured(100.0 * (total - len(wrong)) / total, note=note)


def measure_page_cer(subject: GateSubject) -> Measured:
    """Characters read wrongly, in per cent, on pages that are drawn now, always the same ones.

    Raises:
        InconclusiveError: the model reads no text.
        MissingExtraError: the packages of the pages' fonts are not installed.
    """
    if subject.loaded.config.ocr is None:
        raise InconclusiveError(
            "this model reads no text", remedy="leave the check out of a gates file of your own"
        )
    from benchmarks.pages import render_pages  # only here are its fonts needed

    count, seed = subject.effort.pages, subject.effort.page_seed
    report = evaluate_pages(
        subject.loaded, render_pages(count, seed), ["model"], name=f"{count} drawn pages, seed {seed}"
    )
    return Measured(report.figure("cer_percent", "pages").value, note=report.data)
