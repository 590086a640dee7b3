"""Evaluates a model on a data file: what ``mmllm eval`` runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from benchmarks.evaluate_answers import answer_figures, answer_questions
from benchmarks.evaluate_captions import caption_figures
from benchmarks.evaluate_reading import (
    page_figures,
    recognize_crops,
    recognizer_of,
    word_figures,
)
from benchmarks.evaluation_data import (
    PageRow,
    WordRow,
    decode,
    parse_caption,
    parse_question,
    parse_text,
    read_file,
    read_jsonl,
    sample,
)
from benchmarks.evaluation_report import EvaluatedModel, EvaluationReport, Figure, Progress, part_of
from benchmarks.image_store import ImageStore
from benchmarks.run_rows import run_rows
from mobile_multimodal.errors import DataError, UsageError
from mobile_multimodal.results import TASKS, GenerationConfig, TaskRequest

__all__ = ["EvaluatedModel", "EvaluationReport", "Figure", "Progress", "evaluate"]

TEXT_TABLES = ("words.jsonl", "docs.jsonl")
Findings = tuple[int, list[Figure], list[str], list[dict[str, Any]]]


def evaluate(
    model: EvaluatedModel,
    data: Path,
    task: str,
    *,
    images: Path | None = None,
    train_data: Path | None = None,
    limit: int | None = None,
    generation: GenerationConfig | None = None,
    progress: Progress | None = None,
) -> EvaluationReport:
    """Run a model over a data file and score what it says, with 95 % bootstrap intervals over pictures.

    Args:
        model: what to evaluate; ``run`` is called with a batch of pictures.
        data: a ``.jsonl`` file; for ``ocr`` also a folder or a ``.tar`` file that holds
            ``words.jsonl``, ``docs.jsonl`` or both.
        task: ``"caption"``, ``"vqa"`` or ``"ocr"``.
        images: folder (or ``.tar`` file) of the pictures; the data file's own folder if not given.
            Pictures are found as files or as members of the folder's ``.tar`` files.
        train_data: for ``vqa``, the ``.jsonl`` file that the most common answers are counted in.
        limit: at most so many rows of each table, evenly spaced.
        generation: how text is generated; the model's own default if not given.
        progress: called with the work done and all work, after each batch.

    Raises:
        UsageError: an unknown task, a limit below 1, training data for another task.
        DataError: a missing file, a bad row (named by file and line), a missing or damaged picture.
    """
    if task not in TASKS:
        raise UsageError(f"unknown task {task!r}", remedy=f"one of {', '.join(TASKS)}")
    if train_data is not None and task != "vqa":
        raise UsageError(f"task {task!r} takes no training data", remedy="it serves the baseline of vqa")
    start = time.perf_counter()
    job = _Job(model, data, images, train_data, limit, generation, progress)
    count, figures, notes, rows = _EVALUATIONS[task](job)
    return EvaluationReport(
        task=task,
        data=data.name,
        model=model.name,
        recipe=model.recipe,
        sha256=model.sha256,
        images=count,
        seconds=time.perf_counter() - start,
        figures=tuple(figures),
        notes=tuple(notes),
        rows=tuple(rows),
    )


@dataclass(frozen=True)
class _Job:
    """The arguments of :func:`evaluate`."""

    model: EvaluatedModel
    data: Path
    images: Path | None
    train_data: Path | None
    limit: int | None
    generation: GenerationConfig | None
    progress: Progress | None


def _evaluate_captions(job: _Job) -> Findings:
    content = read_file(job.data)
    store = ImageStore(job.images or job.data.parent)
    rows = sample(read_jsonl(content, str(job.data), parse_caption, store), job.limit)
    request = TaskRequest("caption")
    results = run_rows(
        job.model, rows, store, request, batch_size=16, generation=job.generation, progress=job.progress
    )
    return len(rows), *caption_figures(rows, [result.text for result in results])


def _evaluate_answers(job: _Job) -> Findings:
    content = read_file(job.data)
    training = None
    if job.train_data is not None:
        training = read_jsonl(read_file(job.train_data), str(job.train_data), parse_question)
    store = ImageStore(job.images or job.data.parent)
    rows = sample(read_jsonl(content, str(job.data), parse_question, store), job.limit)
    answers = answer_questions(job.model, rows, store, job.generation, job.progress)
    return len({row.image for row in rows}), *answer_figures(rows, answers, training)


def _evaluate_reading(job: _Job) -> Findings:
    rows, store = _text_rows(job.data, job.images)
    words = sample([row for row in rows if isinstance(row, WordRow)], job.limit)
    pages = sample([row for row in rows if isinstance(row, PageRow)], job.limit)
    recognizer = recognizer_of(job.model) if words else None
    whole = len(words) + len(pages)
    total = whole + (len(words) if recognizer else 0)
    progress = part_of(job.progress, 0, total)
    # Pages are large: few at a time.
    results = run_rows(
        job.model, [*words, *pages], store, TaskRequest("ocr"), batch_size=4, progress=progress
    )
    notes: list[str] = []
    figures: list[Figure] = []
    outputs: list[dict[str, Any]] = []
    if words:
        notes.append("words, model: through the whole pipeline; where no text is detected, the crop is wrong")
        texts = {"model": [result.text for result in results[: len(words)]]}
        if recognizer is not None:
            notes.append("words, recognizer alone: the crop is taken as one line, nothing is detected")
            progress = part_of(job.progress, whole, total)
            texts["recognizer alone"] = recognize_crops(recognizer, words, store, progress)
        found, rows_out = word_figures(words, texts)
        figures += found
        outputs += rows_out
    if pages:
        notes.append("pages: rows top to bottom, left to right; signs in a street scene have no such order")
        found, rows_out = page_figures(pages, results[len(words) :])
        figures += found
        outputs += rows_out
    return whole, figures, notes, outputs


def _text_rows(data: Path, images: Path | None) -> tuple[list[WordRow | PageRow], ImageStore]:
    """The rows of every table, and where their pictures are."""
    if data.suffix == ".jsonl":
        content = read_file(data)
        store = ImageStore(images or data.parent)
        return read_jsonl(content, str(data), parse_text, store), store
    holder = ImageStore(data)
    names = [PurePosixPath(name) for name in holder.members()] if data.is_file() else []
    folders = {str(name.parent) for name in names if name.name in TEXT_TABLES} or {"."}
    if len(folders) > 1:
        raise DataError(f"{data}: tables in several folders: {', '.join(sorted(folders))}")
    prefix = folders.pop()
    holder = ImageStore(data, prefix="" if prefix == "." else f"{prefix}/")
    store = holder if images is None else ImageStore(images)
    rows: list[WordRow | PageRow] = []
    for table in TEXT_TABLES:
        if table in holder:
            label = str(data / prefix / table)
            rows += read_jsonl(decode(holder.read(table), label), label, parse_text, store)
    if not rows:
        raise DataError(
            f"{data}: holds neither {' nor '.join(TEXT_TABLES)}",
            remedy="name a .jsonl file, or a folder or .tar file with one of them",
        )
    return rows, store


_EVALUATIONS: dict[str, Callable[[_Job], Findings]] = {
    "caption": _evaluate_captions,
    "vqa": _evaluate_answers,
    "ocr": _evaluate_reading,
}
