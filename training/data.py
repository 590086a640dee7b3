"""The training data as token ids: what each photo can teach, and how often it is drawn."""

from __future__ import annotations

import gzip
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.evaluation_data import read_file, read_jsonl
from benchmarks.image_store import ImageStore
from mobile_multimodal.errors import DataError
from mobile_multimodal.tokenizer import Tokenizer

__all__ = [
    "DRAWN",
    "Question",
    "TrainingImages",
    "TrainingPhoto",
    "caption_words",
    "encode_sequence",
    "load_photos",
    "mirror",
    "question_prompt",
    "read_rows",
    "read_sentences",
]

MAX_CAPTION_TOKENS = 24
MAX_QUESTION_TOKENS = 28
MAX_ANSWER_TOKENS = 8

DRAWN = "non_photos.jsonl"
"""The rows of the pictures drawn for a run, in its folder."""

MIRRORED = {"left": "right", "right": "left"}


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All rows of a ``.jsonl`` file as they stand.

    Raises:
        DataError: the file is missing, empty, or a line is not a JSON object.
    """
    return read_jsonl(read_file(path), path.name, lambda row, _: dict(row))


def read_sentences(path: Path) -> Iterator[str]:
    """Sentences of a gzipped text file, one a line, empty ones left out.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") as stream:
            for line in stream:
                if sentence := line.strip():
                    yield sentence
    except (OSError, EOFError) as exc:
        raise DataError(f"{path}: {exc}") from exc


def caption_words(caption: str) -> str:
    """A caption as the decoder learns it: lower-case, single spaces, without its full stop."""
    return " ".join(caption.lower().split()).rstrip(". ")


def mirror(text: str) -> str:
    """The text of a mirrored photo: left and right change places."""
    return re.sub(r"\b(left|right)\b", lambda match: MIRRORED[match[0]], text)


@dataclass(frozen=True)
class Question:
    """A question and its answers as text; an answer that more people gave stands more often."""

    question: str
    answers: tuple[str, ...]
    derived: bool


@dataclass(frozen=True)
class TrainingPhoto:
    """One photo: its captions, its questions, its weight when photos are drawn.

    ``names`` are the indices of what the encoder named in it before it learned from it.
    """

    name: str
    captions: tuple[str, ...]
    questions: tuple[Question, ...]
    weight: float
    names: tuple[int, ...] = ()


@dataclass(frozen=True)
class TrainingImages:
    """Photos of the data folder, and pictures drawn for the run."""

    stores: Sequence[ImageStore]

    def read(self, name: str) -> bytes:
        """The bytes of a picture.

        Raises:
            DataError: no store has a picture of this name.
        """
        store = next((store for store in self.stores if name in store), self.stores[0])
        return store.read(name)


def load_photos(
    data: Path,
    derived_questions: Path | None,
    coco_weight: float,
    *,
    drawn: Path | None = None,
    drawn_weight: float = 1.0,
    names: Mapping[str, Sequence[int]] | None = None,
) -> list[TrainingPhoto]:
    """Every photo with a caption or a question, from the training files alone.

    COCO photos are drawn ``coco_weight`` times as often as the others: COCO is broad and what users'
    photos look like, Flickr8k is people and dogs outdoors. Sentences made by rule
    (``captions_derived.jsonl``) stand in where people wrote none. ``drawn`` lists pictures that are no
    photos and come ``drawn_weight`` times as often as one of Flickr8k; ``names`` is what the encoder
    named in each photo.
    """
    captions: dict[str, list[str]] = {}
    weights: dict[str, float] = {}
    for row in read_rows(data / "captions_train.jsonl"):
        captions[row["image"]] = [caption_words(caption) for caption in row["captions"]]
        weights[row["image"]] = 1.0 if row["image"].startswith("flickr8k/") else coco_weight
    for row in read_rows(data / "captions_derived.jsonl"):
        captions.setdefault(row["image"], [caption_words(caption) for caption in row["captions"]])
    questions: dict[str, list[Question]] = defaultdict(list)
    for row in read_rows(data / "vqa_train.jsonl"):
        answers = tuple(row.get("answers") or [row["answer"]])
        questions[row["image"]].append(Question(row["question"], answers, False))
        weights.setdefault(row["image"], coco_weight)
    if derived_questions is not None:
        for row in read_rows(derived_questions):
            questions[row["image"]].append(Question(row["question"], (row["answer"],), True))
    for row in [] if drawn is None else read_rows(drawn):
        captions[row["image"]] = row["captions"]
        weights[row["image"]] = drawn_weight
        questions[row["image"]] = [Question(asked, (answer,), True) for asked, answer in row["questions"]]
    return [
        TrainingPhoto(
            name,
            tuple(captions.get(name, ())),
            tuple(questions[name]),
            weights.get(name, 1.0),
            tuple((names or {}).get(name, ())),
        )
        for name in sorted(captions.keys() | questions.keys())
    ]


def encode_sequence(
    tokenizer: Tokenizer, prompt: Sequence[int], text: str, limit: int
) -> tuple[list[int], list[int]]:
    """Inputs and targets of one sequence; positions that are not learned have the pad id as target.

    A text cut off at ``limit`` tokens has no end: nothing is learned behind its last token.
    """
    whole = tokenizer.encode(text)
    body = whole[:limit]
    last = tokenizer.end_id if len(whole) <= limit else tokenizer.pad_id
    return [*prompt, *body], [tokenizer.pad_id] * (len(prompt) - 1) + [*body, last]


def question_prompt(tokenizer: Tokenizer, question: str) -> list[int]:
    """``<question> … <answer>`` as the runtime builds it."""
    words = tokenizer.encode(question.strip().rstrip("?").strip())[:MAX_QUESTION_TOKENS]
    return [tokenizer.question_id, *words, tokenizer.answer_id]
