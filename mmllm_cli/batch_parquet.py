"""Parquet files of pictures, read a block at a time, and of results."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from mmllm_cli.batch_inputs import BLOCK_ROWS, BatchItem, DataSet, named_item
from mobile_multimodal.errors import DataError, MissingExtraError, UsageError

try:
    import pyarrow as pa  # type: ignore[import-untyped,unused-ignore]
    import pyarrow.parquet as pq  # type: ignore[import-untyped,unused-ignore]
except ImportError as exc:
    raise MissingExtraError("pyarrow", "batch") from exc

__all__ = ["open_parquet", "write_parquet"]

ROWS_WRITTEN_TOGETHER = 4096
READ_BYTES = 2**20
"""How much of a column is read ahead: whole columns of pictures can be larger than the memory."""


def open_parquet(source: Path, column: str, *, with_questions: bool) -> DataSet:
    """A data set in a Parquet file.

    ``column`` holds paths, the bytes of files, or structs of ``bytes`` and ``path`` (as Hugging Face
    datasets writes them). Bytes without a path are named ``FILE#ROW``, counted from 0.

    Raises:
        UsageError: no such column, or one of another type.
        DataError: the file cannot be read.
    """
    try:
        with pq.ParquetFile(source) as file:
            schema, metadata = file.schema_arrow, file.metadata
            groups = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        digest = _hash_footer(source)
    except (OSError, pa.ArrowException) as exc:
        raise _unreadable(source, exc) from exc
    columns = [_column(source, schema, column, _holds_pictures, "neither paths nor bytes", "--image-column")]
    if with_questions:
        columns.append(_column(source, schema, "question", _is_text, "not text", "--question"))

    def read(wanted: Callable[[int], bool]) -> Iterator[tuple[int, BatchItem]]:
        starts = [0, *itertools.accumulate(groups)]
        try:
            with pq.ParquetFile(source, buffer_size=READ_BYTES, pre_buffer=False) as file:
                for group, (start, stop) in enumerate(itertools.pairwise(starts)):
                    # Rows are wanted by the block: one of each tells for all of it.
                    if any(wanted(row) for row in (*range(start, stop, BLOCK_ROWS), stop - 1)):
                        rows = _rows(file, group, columns)
                        yield from ((row, item(row, fields)) for row, fields in enumerate(rows, start=start))
        except (OSError, pa.ArrowException) as exc:
            raise _unreadable(source, exc) from exc

    def item(row: int, fields: Mapping[str, Any]) -> BatchItem:
        where = f"{source.name}#{row}"
        found = _picture(fields[column], where, source.parent, fields.get("question"))
        if with_questions and found.error is None and found.question is None:
            error = DataError(f"{where} has no question", remedy="or give --question")
            return BatchItem(found.name, error=error)
        return found

    return DataSet("parquet", metadata.num_rows, digest, read)


def write_parquet(file: IO[bytes], rows: Iterable[Mapping[str, Any]], *, several_tasks: bool) -> None:
    """Write result rows as they are in JSON, but for ``timings_ms``, a map from stages to milliseconds.

    What a row does not have is null. Lone surrogates of file names that are no UTF-8 are escaped.

    Raises:
        OSError: the file cannot be written.
    """
    schema = _result_schema(several_tasks)
    with pq.ParquetWriter(file, schema) as writer:
        rest = iter(rows)
        while taken := list(itertools.islice(rest, ROWS_WRITTEN_TOGETHER)):
            writer.write_table(pa.Table.from_pylist([_for_arrow(row) for row in taken], schema=schema))


def _rows(file: Any, group: int, columns: list[str]) -> Iterator[Mapping[str, Any]]:
    for batch in file.iter_batches(batch_size=BLOCK_ROWS, row_groups=[group], columns=columns):
        yield from batch.to_pylist()


def _picture(value: Any, where: str, folder: Path, question: str | None) -> BatchItem:
    if isinstance(value, Mapping):
        name = value.get("path")
        if value.get("bytes") is None:
            return named_item(name, where, folder, question)
        return BatchItem(name or where, data=value["bytes"], question=question)
    if isinstance(value, bytes):
        return BatchItem(where, data=value, question=question)
    return named_item(value, where, folder, question)


def _column(
    source: Path, schema: Any, name: str, fits: Callable[[Any], bool], what_else: str, option: str
) -> str:
    if name not in schema.names:
        raise UsageError(
            f"{source} has no column {name!r}, only {', '.join(schema.names)}", remedy=f"give {option}"
        )
    kind = schema.field(name).type
    if not fits(kind):
        raise UsageError(
            f"column {name!r} of {source} is {kind}: it holds {what_else}", remedy=f"give {option}"
        )
    return name


def _holds_pictures(kind: Any) -> bool:
    if pa.types.is_struct(kind):
        fields = {kind.field(index).name: kind.field(index).type for index in range(kind.num_fields)}
        return "bytes" in fields and _is_bytes(fields["bytes"]) and _is_text(fields.get("path", pa.string()))
    return _is_text(kind) or _is_bytes(kind)


def _is_text(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_bytes(kind: Any) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _hash_footer(source: Path) -> str:
    """Where every column chunk lies, its size and its statistics: hashed in no time at any size."""
    with source.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(size - 8)
        footer = int.from_bytes(file.read(4), "little")
        file.seek(size - 8 - footer)
        return hashlib.sha256(file.read()).hexdigest()


def _unreadable(source: Path, exc: Exception) -> DataError:
    return DataError(
        f"{source} cannot be read: {(str(exc) or type(exc).__name__).splitlines()[0]}",
        remedy="give a whole Parquet file",
    )


def _result_schema(several_tasks: bool) -> Any:
    text, number = pa.string(), pa.float64()
    region = pa.struct([("text", text), ("box", pa.list_(pa.list_(number))), ("confidence", number)])
    timings = pa.map_(text, number)
    result = [
        ("task", text),
        ("text", text),
        ("confidence", number),
        ("timings_ms", timings),
        ("question", text),
        ("regions", pa.list_(region)),
    ]
    error = pa.struct([("type", text), ("message", text), ("remedy", text)])
    found = [("results", pa.list_(pa.struct(result))), ("timings_ms", timings)] if several_tasks else result
    return pa.schema([("image", text), *found, ("model", text), ("notes", pa.list_(text)), ("error", error)])


def _for_arrow(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Mapping):
        return {
            name: list(part.items()) if name == "timings_ms" else _for_arrow(part)
            for name, part in value.items()
        }
    return [_for_arrow(part) for part in value] if isinstance(value, list) else value
