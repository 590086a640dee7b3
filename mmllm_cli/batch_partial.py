"""The file beside the output that holds the finished rows of a run until all are there."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from mmllm_cli.batch_worker import Row
from mobile_multimodal.errors import DataError, MmllmError, UsageError

if sys.platform != "win32":
    import fcntl

__all__ = ["PartialFile", "json_line", "partial_path"]


def partial_path(output: Path) -> Path:
    """Where the finished rows of an output are kept."""
    return output.with_name(f"{output.name}.partial")


def json_line(row: Mapping[str, Any]) -> bytes:
    """One JSON document as a line of UTF-8; with escapes where a file name is no Unicode."""
    try:
        return json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(row, allow_nan=False).encode() + b"\n"


class PartialFile:
    """JSON lines: what the run is, then ``{"block": N, "rows": […]}`` for every finished block, as they come.

    Each line reaches the system before the next block is waited for; a last line that was cut off is dropped.

    Args:
        path: the file.
        run: what must be the same for its rows to be of use, by what it is called.
        resume: go on where there is such a file.
        force: start anew where there is one.

    Raises:
        UsageError: there is such a file and neither is given, it is of another run, or is in use.
        DataError: the file is damaged.
        MmllmError: the file cannot be written.
    """

    def __init__(self, path: Path, run: Mapping[str, Any], *, resume: bool, force: bool) -> None:
        self.path = path
        self.finished: dict[int, int] = {}
        """Where the line of each finished block begins."""
        self._file = _open(path)
        try:
            _lock(self._file, path)
            if force:
                self._file.truncate(0)
            self._read(run, may_go_on=resume)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> PartialFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):  # the rest of a line that the disk had no room for
            self._file.close()

    def write(self, block: int, rows: Sequence[Row]) -> None:
        """Keep the rows of a block.

        Raises:
            MmllmError: the file cannot be written.
        """
        self.finished[block] = self._append({"block": block, "rows": rows})

    def rows(self) -> Iterator[Row]:
        """The rows of all finished blocks, in the order of the data set."""
        for block in sorted(self.finished):
            self._file.seek(self.finished[block])
            yield from json.loads(self._file.readline())["rows"]

    def remove(self) -> None:
        """Remove the file: the output is there."""
        self.path.unlink(missing_ok=True)

    def _read(self, run: Mapping[str, Any], *, may_go_on: bool) -> None:
        self._file.seek(0)
        first = self._file.readline()
        if not first.endswith(b"\n"):  # new, or ended before it began
            self._file.truncate(0)
            self._append(run)
            return
        if not may_go_on:
            raise UsageError(
                f"{self.path} holds the finished rows of another run",
                remedy="--resume goes on with it, --force starts anew",
            )
        # As it comes back from JSON: lists for tuples.
        self._check_run(self._parse(first, 1), json.loads(json_line(run)))
        number = 1
        while line := self._file.readline():
            number += 1
            start = self._file.tell() - len(line)
            if not line.endswith(b"\n"):
                self._file.truncate(start)
                break
            found = self._parse(line, number)
            if not isinstance(found.get("block"), int) or not isinstance(found.get("rows"), list):
                raise self._damaged(number)
            self.finished[found["block"]] = start

    def _check_run(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        for name in now:
            if before.get(name) != now[name]:
                raise UsageError(
                    f"{self.path} was begun with another {name}: {_short(before.get(name))}, "
                    f"not {_short(now[name])}",
                    remedy="repeat the command that began it, or --force starts anew",
                )

    def _parse(self, line: bytes, number: int) -> Mapping[str, Any]:
        try:
            found = json.loads(line)
        except ValueError as exc:
            raise self._damaged(number) from exc
        if not isinstance(found, dict):
            raise self._damaged(number)
        return found

    def _damaged(self, number: int) -> DataError:
        return DataError(f"{self.path} is damaged in line {number}", remedy="--force starts anew")

    def _append(self, document: Mapping[str, Any]) -> int:
        try:
            start = self._file.seek(0, 2)
            self._file.write(json_line(document))
            self._file.flush()
        except OSError as exc:
            raise _unwritable(self.path, exc) from exc
        return start


def _open(path: Path) -> IO[bytes]:
    try:
        # Opened for appending, so that it is made where it is missing and kept where it is not.
        return path.open("a+b")
    except OSError as exc:
        raise _unwritable(path, exc) from exc


def _lock(file: IO[bytes], path: Path) -> None:
    if sys.platform != "win32":
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            remedy = "wait for it, or name another OUT"
            raise UsageError(f"another run is writing {path}", remedy=remedy) from exc
        except OSError:  # a file system without locks
            return


def _unwritable(path: Path, exc: OSError) -> MmllmError:
    return MmllmError(f"{path} cannot be written: {exc.strerror}", remedy="check the disk and the path")


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:59]}…"
