"""Evaluation rows out of JSON lines, checked as they are read: a bad one is named by file and line."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.answer_metrics import exact_match
from benchmarks.caption_metrics import tokenize
from benchmarks.image_store import ImageStore
from mobile_multimodal.errors import DataError, UsageError
from mobile_multimodal.results import Box, TaskRequest

__all__ = [
    "CaptionRow",
    "PageRow",
    "QuestionRow",
    "TruthBox",
    "WordRow",
    "decode",
    "parse_caption",
    "parse_question",
    "parse_text",
    "read_file",
    "read_jsonl",
    "sample",
]

Row = TypeVar("Row")
CAPTION_SOURCES = {"coco": "COCO", "flickr8k": "Flickr8k"}


@dataclass(frozen=True)
class CaptionRow:
    """A photo with its reference captions; ``where`` is ``file:line``."""

    where: str
    image: str
    references: tuple[tuple[str, ...], ...]
    source: str


@dataclass(frozen=True)
class QuestionRow:
    """A question about a photo.

    ``answers`` holds several people's answers and is empty where there is one answer only; then
    ``answer`` is matched exactly. ``source`` is ``"human"``, ``"human, one answer"`` or the name of
    the collection.
    """

    where: str
    image: str
    request: TaskRequest
    answer: str
    answers: tuple[str, ...]
    type: str
    source: str

    @property
    def question(self) -> str:
        """The question's text."""
        return self.request.question or ""


@dataclass(frozen=True)
class TruthBox:
    """A word or line on a page: corners clockwise from the top left; illegible ones are not scored."""

    box: Box
    text: str
    legible: bool


@dataclass(frozen=True)
class WordRow:
    """A picture of one word or line of text."""

    where: str
    image: str
    text: str
    source: str


@dataclass(frozen=True)
class PageRow:
    """A page or scene with everything written on it."""

    where: str
    image: str
    boxes: tuple[TruthBox, ...]
    source: str


def _field(row: Mapping[str, Any], name: str, kind: type[Row], where: str) -> Row:
    if name not in row:
        raise DataError(f"{where}: {name!r} is missing")
    value = row[name]
    if not isinstance(value, kind):
        raise DataError(f"{where}: {name!r} is a {type(value).__name__}, not a {kind.__name__}")
    if isinstance(value, str) and not value.strip():
        raise DataError(f"{where}: {name!r} is empty")
    return value


def _strings(row: Mapping[str, Any], name: str, where: str) -> tuple[str, ...]:
    values = _field(row, name, list, where)
    for value in values:
        if not isinstance(value, str) or not value.strip():
            raise DataError(f"{where}: {name!r} holds {value!r}, not a text")
    return tuple(values)


def parse_caption(row: Mapping[str, Any], where: str) -> CaptionRow:
    """A row with ``image``, ``captions`` and ``source`` (``"coco:…"``, ``"flickr8k:…"``, or any name).

    Raises:
        DataError: a field that is missing, empty or of another type, or a caption without a word.
    """
    references = tuple(tokenize(caption) for caption in _strings(row, "captions", where))
    if not references or not all(references):
        raise DataError(f"{where}: 'captions' has none, or one without a word")
    collection = _field({"source": "other", **row}, "source", str, where).partition(":")[0]
    source = CAPTION_SOURCES.get(collection, collection)
    return CaptionRow(where, _field(row, "image", str, where), references, source)


def parse_question(row: Mapping[str, Any], where: str) -> QuestionRow:
    """A row with ``image``, ``question``, ``answer``, ``type`` and ``source``.

    Where several people answered, ``answers`` holds all they said.

    Raises:
        DataError: a field that is missing, empty or of another type, or a question that is too long.
    """
    answer = _field(row, "answer", str, where)
    answers = _strings(row, "answers", where) if "answers" in row else ()
    source = _field({"source": "other", **row}, "source", str, where)
    if source.startswith("VQA") or len(answers) > 1:
        source = "human" if len(answers) > 1 else "human, one answer"
    try:
        request = TaskRequest("vqa", _field(row, "question", str, where))
        exact_match(answer, answer)
    except (UsageError, ValueError) as exc:
        raise DataError(f"{where}: {exc}") from exc
    kind = _field({"type": "other", **row}, "type", str, where)
    image = _field(row, "image", str, where)
    return QuestionRow(where, image, request, answer, answers if len(answers) > 1 else (), kind, source)


def parse_text(row: Mapping[str, Any], where: str) -> WordRow | PageRow:
    """A row with ``image`` and either ``text`` or ``boxes`` (each ``quad`` of 8 numbers, ``text``).

    A box is illegible where ``legible`` is false or its text is ``###``.

    Raises:
        DataError: a field that is missing, empty or of another type, or a page without legible text.
    """
    image = _field(row, "image", str, where)
    source = _field({"source": "other", **row}, "source", str, where)
    if "boxes" not in row:
        return WordRow(where, image, _field(row, "text", str, where), source)
    boxes = []
    for entry in _field(row, "boxes", list, where):
        if not isinstance(entry, dict):
            raise DataError(f"{where}: 'boxes' holds {entry!r}, not an object")
        quad = _field(entry, "quad", list, where)
        if len(quad) != 8 or not all(
            isinstance(value, int | float) and math.isfinite(value) for value in quad
        ):
            raise DataError(f"{where}: 'quad' is {quad!r}, not 8 finite numbers")
        x1, y1, x2, y2, x3, y3, x4, y4 = map(float, quad)
        text = _field(entry, "text", str, where)
        legible = _field({"legible": True, **entry}, "legible", bool, where) and text != "###"
        boxes.append(TruthBox(((x1, y1), (x2, y2), (x3, y3), (x4, y4)), text, legible))
    if not any(box.legible for box in boxes):
        raise DataError(f"{where}: no legible text on the page")
    return PageRow(where, image, tuple(boxes), source)


def read_jsonl(
    content: str, label: str, parse: Callable[[Mapping[str, Any], str], Row], store: ImageStore | None = None
) -> list[Row]:
    """All rows of a ``.jsonl`` text, blank lines left out; ``label`` names the file in errors.

    With a ``store``, the picture of every row must be in it: a missing one is found before any work.

    Raises:
        DataError: no rows, a line that is not a JSON object, a bad row, a missing picture.
    """
    rows = []
    for where, fields in _objects(content, label):
        rows.append(parse(fields, where))
        if store is not None and fields["image"] not in store:
            raise DataError(
                f"{where}: {fields['image']} is neither a file of {store.root} nor in a tar file there",
                remedy="name the folder of the pictures with --images",
            )
    if not rows:
        raise DataError(f"{label}: no rows")
    return rows


def _objects(content: str, label: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{label}:{number}"
        try:
            fields = json.loads(line)
        except ValueError as exc:
            raise DataError(f"{where}: not JSON: {exc}") from exc
        if not isinstance(fields, dict):
            raise DataError(f"{where}: not a JSON object")
        yield where, fields


def read_file(path: Path) -> str:
    """A text file.

    Raises:
        DataError: it is missing, unreadable or not UTF-8.
    """
    try:
        return decode(path.read_bytes(), str(path))
    except OSError as exc:
        raise DataError(f"{path}: {exc.strerror}", remedy="name a .jsonl file that can be read") from exc


def decode(content: bytes, label: str) -> str:
    """The text of a file named ``label``.

    Raises:
        DataError: it is not UTF-8.
    """
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise DataError(f"{label}: not UTF-8 text") from exc


def sample(rows: Sequence[Row], limit: int | None) -> list[Row]:
    """At most ``limit`` rows, evenly spaced, so that every source of a sorted file is among them.

    Raises:
        UsageError: a limit below 1.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"limit {limit} is below 1")
    if limit is None or limit >= len(rows):
        return list(rows)
    return [rows[index * len(rows) // limit] for index in range(limit)]
