"""Answers against people's answers, beside two baselines that do not look at the picture."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.answer_metrics import exact_match, normalize_answer, vqa_accuracy
from benchmarks.evaluation_data import QuestionRow
from benchmarks.evaluation_report import EvaluatedModel, Figure, Progress, measure, part_of
from benchmarks.image_store import ImageStore
from benchmarks.intervals import ratio
from mobile_multimodal.image import LoadedImage
from mobile_multimodal.results import GenerationConfig, TaskRequest

__all__ = [
    "Answers",
    "answer_figures",
    "answer_photos",
    "answer_questions",
    "answer_scores",
    "common_answers",
    "exact_matches",
]

QUESTIONS_AT_ONCE = 32
# Mid-grey, the zero of the encoder's normalisation: the picture says nothing.
BLANK_LEVEL = 127


@dataclass(frozen=True)
class Answers:
    """Answers to the same questions, in order: with the picture, and with a blank one."""

    model: tuple[str, ...]
    blank: tuple[str, ...]


def answer_photos(
    model: EvaluatedModel,
    rows: Sequence[QuestionRow],
    store: ImageStore,
    generation: GenerationConfig | None,
    progress: Progress | None,
) -> list[str]:
    """The model's answers, in the order of the rows; each picture is encoded once.

    Raises:
        DataError: a picture that cannot be read.
    """
    by_image: dict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        by_image[row.image].append(index)
    done = 0
    answers = [""] * len(rows)
    for name, indices in by_image.items():
        image = store.load(name, rows[indices[0]].where)
        results = model.run([image], [rows[index].request for index in indices], generation)
        for index, result in zip(indices, results[0], strict=True):
            answers[index] = result.text
        done += len(indices)
        if progress is not None:
            progress(done, len(rows))
    return answers


def answer_questions(
    model: EvaluatedModel,
    rows: Sequence[QuestionRow],
    store: ImageStore,
    generation: GenerationConfig | None,
    progress: Progress | None,
) -> Answers:
    """The model's answers, each picture encoded once, then its answers to a uniform grey picture.

    Raises:
        DataError: a picture that cannot be read.
    """
    questions = list(dict.fromkeys(row.question for row in rows))
    total = len(rows) + len(questions)
    answers = answer_photos(model, rows, store, generation, part_of(progress, 0, total))
    done = len(rows)
    blank = LoadedImage(np.full((224, 224, 3), BLANK_LEVEL, dtype=np.uint8), "<blank>")
    unseen: dict[str, str] = {}
    for start in range(0, len(questions), QUESTIONS_AT_ONCE):
        batch = questions[start : start + QUESTIONS_AT_ONCE]
        results = model.run([blank], [TaskRequest("vqa", question) for question in batch], generation)
        unseen.update({question: result.text for question, result in zip(batch, results[0], strict=True)})
        done += len(batch)
        if progress is not None:
            progress(done, total)
    return Answers(tuple(answers), tuple(unseen[row.question] for row in rows))


def common_answers(rows: Sequence[QuestionRow]) -> Callable[[QuestionRow], str]:
    """The most common answer of each source and type; of all where these rows have none of that type."""
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for row in rows:
        answer = normalize_answer(row.answer) or row.answer
        source = "human" if row.source.startswith("human") else row.source
        for key in ((source, row.type), ("", row.type), ("", "")):
            counts[key][answer] += 1
    best: Mapping[tuple[str, str], str] = {key: count.most_common(1)[0][0] for key, count in counts.items()}

    def guess(row: QuestionRow) -> str:
        source = "human" if row.source.startswith("human") else row.source
        return best.get((source, row.type), best.get(("", row.type), best["", ""]))

    return guess


def exact_matches(rows: Sequence[QuestionRow], texts: Sequence[str]) -> list[float]:
    """1 for every answer that is the expected one after normalisation, else 0."""
    return [float(exact_match(given, row.answer)) for given, row in zip(texts, rows, strict=True)]


def answer_scores(rows: Sequence[QuestionRow], texts: Sequence[str]) -> list[float]:
    """Score of every answer, 0..1: VQA accuracy where several people answered, exact match otherwise."""
    return [
        vqa_accuracy(given, row.answers) if row.answers else match
        for given, row, match in zip(texts, rows, exact_matches(rows, texts), strict=True)
    ]


def answer_figures(
    rows: Sequence[QuestionRow], answers: Answers, training_rows: Sequence[QuestionRow] | None
) -> tuple[list[Figure], list[str], list[dict[str, Any]]]:
    """Figures for the model and both baselines, notes, and one output row per question.

    Each source has a figure for all its questions and one for each type: VQA accuracy
    (min(n/3, 1)) where several people answered, exact match otherwise. Exact match with ``answer``
    is also given over all sources by type. ``gain_points`` is the model's lead over the blank
    picture in the same measure, on the same questions, resampled together.
    """
    guess = common_answers(training_rows if training_rows is not None else rows)
    origin = "the training file" if training_rows is not None else "the evaluated questions themselves"
    notes = [
        "human: VQA accuracy min(n/3, 1); every other source, and exact_match_percent: exact match",
        f"most common answer: per source and question type, counted in {origin}",
        "blank image: the same decoder given a uniform grey picture",
    ]
    systems = {
        "model": answers.model,
        "most common answer": tuple(guess(row) for row in rows),
        "blank image": answers.blank,
    }
    matches = {system: exact_matches(rows, texts) for system, texts in systems.items()}
    scores = {system: answer_scores(rows, texts) for system, texts in systems.items()}
    figures: list[Figure] = []
    for group, indices in _groups(rows, lambda row: row.source).items():
        metric = "vqa_accuracy_percent" if rows[indices[0]].answers else "exact_match_percent"
        figures += _figures(metric, group, rows, indices, scores)
    for group, indices in _groups(rows, lambda _: "all").items():
        figures += _figures("exact_match_percent", group, rows, indices, matches)
    outputs = [
        {
            "image": row.image,
            "source": row.source,
            "type": row.type,
            "question": row.question,
            "answer": answers.model[index],
            "expected": row.answer,
            "score": scores["model"][index],
            "blank_answer": answers.blank[index],
        }
        for index, row in enumerate(rows)
    ]
    return figures, notes, outputs


def _groups(rows: Sequence[QuestionRow], label: Callable[[QuestionRow], str]) -> dict[str, list[int]]:
    """Row numbers by label, and by ``label: type``."""
    groups: dict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        groups[label(row)].append(index)
        groups[f"{label(row)}: {row.type}"].append(index)
    return dict(sorted(groups.items()))


def _figures(
    metric: str,
    group: str,
    rows: Sequence[QuestionRow],
    indices: Sequence[int],
    scores: Mapping[str, Sequence[float]],
) -> list[Figure]:
    count = len(indices)
    figures = [
        measure(
            metric, group, _by_image(rows, indices, values), ratio, samples=count, system=system, scale=100.0
        )
        for system, values in scores.items()
    ]
    gains = [seen - unseen for seen, unseen in zip(scores["model"], scores["blank image"], strict=True)]
    gain = _by_image(rows, indices, gains)
    return [*figures, measure("gain_points", group, gain, ratio, samples=count, scale=100.0)]


def _by_image(
    rows: Sequence[QuestionRow], indices: Sequence[int], values: Sequence[float]
) -> NDArray[np.float64]:
    """Sum of the values and number of questions for each picture, [pictures, 2]."""
    sums: dict[str, list[float]] = {}
    for index in indices:
        total = sums.setdefault(rows[index].image, [0.0, 0.0])
        total[0] += values[index]
        total[1] += 1.0
    return np.array(list(sums.values()))
