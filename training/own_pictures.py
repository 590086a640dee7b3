"""A user's captioned pictures out of a ``.jsonl`` file, checked row by row before any training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.evaluation_data import parse_caption, parse_question, read_file, read_jsonl
from benchmarks.image_store import ImageStore
from mobile_multimodal.errors import DataError
from training.data import Question, caption_words

__all__ = ["OwnPicture", "OwnPictures", "read_own_pictures", "split_pictures"]

FIELDS = ("image", "captions", "questions")
HELD_OUT = 5
"""One picture in five is not learned from; it shows whether learning helped."""


@dataclass(frozen=True)
class OwnPicture:
    """A row: a picture's name, captions and questions as they are learned; ``where`` is ``file:line``."""

    where: str
    image: str
    captions: tuple[str, ...]
    questions: tuple[Question, ...]


@dataclass(frozen=True)
class OwnPictures:
    """The rows of one file, and the folder that their pictures lie in."""

    rows: tuple[OwnPicture, ...]
    store: ImageStore


def _parse_questions(row: Mapping[str, Any], where: str) -> tuple[Question, ...]:
    pairs = row.get("questions", [])
    if not isinstance(pairs, list):
        raise DataError(f"{where}: 'questions' is a {type(pairs).__name__}, not a list")
    questions = []
    for pair in pairs:
        if not isinstance(pair, dict) or pair.keys() != {"question", "answer"}:
            raise DataError(f"{where}: 'questions' holds {pair!r}", remedy='{"question": "…", "answer": "…"}')
        checked = parse_question({"image": row["image"], **pair}, where)
        questions.append(Question(checked.question, (caption_words(checked.answer),), False))
    return tuple(questions)


def read_own_pictures(path: Path) -> OwnPictures:
    """Read a ``.jsonl`` file of rows ``{"image", "captions", "questions"}``; questions may be left out.

    Pictures are named relative to the file's folder and lie in it, below it, or in a tar file there.

    Raises:
        DataError: a missing file, a bad row (named by its line), a picture that is missing or named twice.
    """
    content = read_file(path)
    store = ImageStore(path.parent)
    lines: dict[str, str] = {}

    def parse(row: Mapping[str, Any], where: str) -> OwnPicture:
        if unknown := sorted(row.keys() - set(FIELDS)):
            raise DataError(f"{where}: unknown field {unknown[0]!r}", remedy=f"known: {', '.join(FIELDS)}")
        image = parse_caption(row, where).image
        if image not in store:
            raise DataError(
                f"{where}: no picture {image!r} in {store.root}",
                remedy="pictures are named relative to the .jsonl file, and lie in its folder or below",
            )
        if image in lines:
            raise DataError(
                f"{where}: {image!r} stands in {lines[image]} too", remedy="put its captions into one row"
            )
        lines[image] = where
        captions = tuple(caption_words(caption) for caption in row["captions"])
        return OwnPicture(where, image, captions, _parse_questions(row, where))

    return OwnPictures(tuple(read_jsonl(content, str(path), parse)), store)


def split_pictures(data: Path, val: Path | None) -> tuple[OwnPictures, OwnPictures]:
    """The pictures to learn from, and those held out: the rows of ``val``, or every fifth row of ``data``.

    Raises:
        DataError: as :func:`read_own_pictures`, too few rows, or a picture that is in both files.
    """
    own = read_own_pictures(data)
    if val is None:
        if len(own.rows) < HELD_OUT:
            raise DataError(
                f"{data}: {len(own.rows)} rows, fewer than {HELD_OUT}, of which one is held out",
                remedy="add pictures, or name a file of others with --val",
            )
        number = range(1, len(own.rows) + 1)
        learned = tuple(row for i, row in zip(number, own.rows, strict=True) if i % HELD_OUT)
        held_out = tuple(row for i, row in zip(number, own.rows, strict=True) if not i % HELD_OUT)
        return replace(own, rows=learned), replace(own, rows=held_out)
    other = read_own_pictures(val)
    known = {(own.store.root / row.image).resolve(): row.where for row in own.rows}
    for row in other.rows:
        if where := known.get((other.store.root / row.image).resolve()):
            raise DataError(f"{row.where}: {row.image!r} is learned from: {where}", remedy="hold out others")
    return own, other
