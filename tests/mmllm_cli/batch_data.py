"""A small data set with everything in it, and what the other commands say of the same pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

EXAMPLES = Path(__file__).parents[2] / "examples" / "images"
PICTURES = ("cat.jpg", "cows.jpg", "dog.jpg", "rocket.jpg", "horses.jpg", "coffee.jpg")


def write_folder(folder: Path) -> Path:
    """Eleven pictures in three folders, more than a block; one is words, one is cut off."""
    for part in ("", "b", "b/c"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for number, name in enumerate((*PICTURES, *PICTURES[:3])):
        place = ("", "b", "b/c")[number % 3]
        (folder / place / f"{number}-{name}").write_bytes((EXAMPLES / name).read_bytes())
    (folder / "b" / "words.jpg").write_bytes(b"these are words and not a picture\n" * 20)
    (folder / "cut.jpg").write_bytes((EXAMPLES / "cat.jpg").read_bytes()[:4000])
    (folder / "notes.txt").write_text("no picture")
    return folder


def write_lines(path: Path, lines: Sequence[str | Mapping[str, Any]]) -> Path:
    """A list of paths, or of JSON objects."""
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("".join(f"{text}\n" for text in texts))
    return path


def write_parquet_data(path: Path, columns: Mapping[str, Sequence[Any]], *, group: int = 5) -> Path:
    """A Parquet file in row groups that do not end where blocks do."""
    pq.write_table(pa.table(dict(columns)), path, row_group_size=group)
    return path


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of an output, with nothing that differs from run to run, and without what is null."""
    if path.suffix == ".parquet":
        return [untimed(row) for row in pq.read_table(path).to_pylist()]
    return [untimed(json.loads(line)) for line in path.read_text("utf-8").splitlines()]


def untimed(value: Any) -> Any:
    """A row without its times and nulls."""
    if isinstance(value, Mapping):
        kept = {name: untimed(part) for name, part in value.items() if name != "timings_ms"}
        return {name: part for name, part in kept.items() if part is not None}
    return [untimed(part) for part in value] if isinstance(value, list) else value
