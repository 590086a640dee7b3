"""The rows of a data set: a directory, a list of paths, JSON lines or a Parquet file, in blocks."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mmllm_cli.fetch import is_url
from mmllm_cli.image_inputs import expand_inputs, read_input
from mobile_multimodal.errors import DataError, ImageError, MmllmError, UsageError
from mobile_multimodal.image import IMAGE_SUFFIXES

__all__ = ["BLOCK_ROWS", "BatchItem", "Block", "DataSet", "named_item", "open_data_set", "read_blocks"]

BLOCK_ROWS = 8
"""Pictures that are worked on together and kept together: as many as ``mmllm caption`` takes at a time."""
LIST_SUFFIXES = ("", ".txt", ".lst", ".list")


@dataclass(frozen=True)
class BatchItem:
    """One row: a file or the bytes of one, or the error that its row of the data set is.

    ``name`` is what the row's result is called by; ``question`` belongs to ``vqa`` alone.
    """

    name: str
    path: str | None = None
    data: bytes | None = None
    question: str | None = None
    error: MmllmError | None = None


@dataclass(frozen=True)
class Block:
    """Rows that are worked on together: those from ``first`` on of the data set's block ``number``."""

    number: int
    items: tuple[BatchItem, ...]
    first: int = 0


@dataclass(frozen=True)
class DataSet:
    """A data set: how many rows, what tells it from another, and its rows on demand.

    ``sha256`` is over the names of a directory's pictures, the bytes of a list, the footer of a Parquet
    file. ``read`` gives rows with their numbers, in order; rows that its argument refuses may be missing.
    """

    kind: str
    rows: int
    sha256: str
    read: Callable[[Callable[[int], bool]], Iterator[tuple[int, BatchItem]]]

    @property
    def blocks(self) -> int:
        """How many blocks the rows make."""
        return -(-self.rows // BLOCK_ROWS)


def open_data_set(source: Path, *, image_column: str | None, question: str | None, asks: bool) -> DataSet:
    """Look at a data set without reading a picture; paths are relative to the folder of the file.

    Args:
        source: a directory (searched through all its folders), a ``.txt`` list with a path a line,
            a ``.jsonl`` file or a ``.parquet`` file.
        image_column: the field or column of the picture, ``image`` if not given.
        question: asked of every picture instead of the questions of the rows.
        asks: whether questions are needed.

    Raises:
        UsageError: not such a data set, no such column, or questions that it cannot have.
        DataError: the file cannot be read, or holds no rows.
        ImageError: the directory holds no pictures.
        MissingExtraError: a Parquet file without pyarrow.
    """
    suffix = source.suffix.lower()
    needs = asks and question is None
    if not source.exists():
        raise UsageError(f"{source} does not exist", remedy="give a directory, a list, .jsonl or .parquet")
    if source.is_dir():
        data_set = _open_directory(str(source))
    elif suffix == ".jsonl":
        data_set = _open_json_lines(source, image_column or "image", with_questions=needs)
    elif suffix == ".parquet":
        from mmllm_cli.batch_parquet import open_parquet

        data_set = open_parquet(source, image_column or "image", with_questions=needs)
    elif suffix in LIST_SUFFIXES:
        data_set = _open_list(source)
    elif suffix in IMAGE_SUFFIXES:
        raise UsageError(f"{source} is a picture, not a data set", remedy=f"mmllm caption {source}")
    else:
        raise UsageError(
            f"{source} is no data set that can be read", remedy="give a directory, .txt, .jsonl or .parquet"
        )
    has_columns = data_set.kind in ("jsonl", "parquet")
    if needs and not has_columns:
        raise UsageError("task 'vqa' needs a question", remedy='--question "what is on the table?"')
    if image_column is not None and not has_columns:
        raise UsageError(f"{source} has no columns", remedy="leave --image-column out")
    if not data_set.rows:
        raise DataError(f"{source} holds no rows", remedy="give one with pictures")
    return data_set if question is None or not asks else _asking(data_set, question)


def read_blocks(data_set: DataSet, is_finished: Callable[[int], bool]) -> Iterator[Block]:
    """The blocks that are not finished, in order, read as they are taken.

    Raises:
        DataError: the file cannot be read any more, or was changed meanwhile.
    """
    items: list[BatchItem] = []
    last = data_set.rows - 1
    for row, item in data_set.read(lambda row: not is_finished(row // BLOCK_ROWS)):
        number = row // BLOCK_ROWS
        if is_finished(number):
            continue
        items.append(item)
        if row == last or row % BLOCK_ROWS == BLOCK_ROWS - 1:
            yield Block(number, tuple(items))
            items = []


def named_item(name: object, where: str, folder: Path, question: str | None = None) -> BatchItem:
    """The item of a row that names its picture; ``where`` is what the row is called by if it does not."""
    if not isinstance(name, str) or not name:
        return BatchItem(where, error=DataError(f"{where} names no picture", remedy="give its path"))
    if is_url(name):
        remedy = "fetch it first: mmllm batch reads files"
        return BatchItem(name, error=ImageError(f"{name} is the address of a picture", remedy=remedy))
    return BatchItem(name, path=os.path.join(folder, name), question=question)


def _asking(data_set: DataSet, question: str) -> DataSet:
    """The data set with one question to all its pictures."""

    def read(wanted: Callable[[int], bool]) -> Iterator[tuple[int, BatchItem]]:
        for row, item in data_set.read(wanted):
            yield row, replace(item, question=question)

    return replace(data_set, read=read)


def _open_directory(directory: str) -> DataSet:
    pictures = expand_inputs([directory], recursive=True)
    if pictures[0].kind == "empty directory":
        read_input(pictures[0])  # says why
    names = [picture.name for picture in pictures]
    digest = hashlib.sha256("\0".join(names).encode("utf-8", "surrogateescape")).hexdigest()
    return _indexed("directory", names, digest, lambda row: BatchItem(names[row], path=names[row]))


def _open_list(source: Path) -> DataSet:
    content = _bytes_of(source)
    if b"\0" in content[:4096]:
        raise DataError(f"{source} is not a text file", remedy="give a list with a path a line")
    lines = [os.fsdecode(line.strip()) for line in _lines(content) if line.strip()]

    def item(row: int) -> BatchItem:
        return named_item(lines[row], f"{source}:{row + 1}", source.parent)

    return _indexed("list", lines, hashlib.sha256(content).hexdigest(), item)


def _open_json_lines(source: Path, column: str, *, with_questions: bool) -> DataSet:
    content = _bytes_of(source)
    lines = [(number, line) for number, line in enumerate(_lines(content), start=1) if line.strip()]

    def item(row: int) -> BatchItem:
        number, line = lines[row]
        where = f"{source}:{number}"
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError):
            return BatchItem(where, error=DataError(f"{where} is not JSON", remedy="one object a line"))
        if not isinstance(fields, dict) or column not in fields:
            return BatchItem(where, error=DataError(f"{where} has no field {column!r}"))
        found = named_item(fields[column], where, source.parent)
        if not with_questions or found.error is not None:
            return found
        question = fields.get("question")
        if not isinstance(question, str):
            return replace(found, error=DataError(f"{where} has no question", remedy="or give --question"))
        return replace(found, question=question)

    return _indexed("jsonl", lines, hashlib.sha256(content).hexdigest(), item)


def _indexed(kind: str, rows: Sequence[object], digest: str, item: Callable[[int], BatchItem]) -> DataSet:
    def read(wanted: Callable[[int], bool]) -> Iterator[tuple[int, BatchItem]]:
        return ((row, item(row)) for row in range(len(rows)) if wanted(row))

    return DataSet(kind, len(rows), digest, read)


def _lines(content: bytes) -> list[bytes]:
    return content.removeprefix(b"\xef\xbb\xbf").splitlines()


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise DataError(f"{path} cannot be read: {exc.strerror}", remedy="check the path") from exc
