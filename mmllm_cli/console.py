"""What the commands print: data on standard output, everything else on standard error."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import typer

__all__ = [
    "PIPE_CLOSED",
    "Progress",
    "dim",
    "discard_output",
    "one_line",
    "print_error",
    "print_json",
    "print_note",
    "print_text",
    "progress",
]


PIPE_CLOSED = 141  # what a shell reports for a program that SIGPIPE ended


class Progress(Protocol):
    """Shows how far a batch has come."""

    def show(self, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` are finished."""
        ...


# While a progress bar is drawn, lines for the same terminal are printed above it by this one function.
_above_the_bar: list[Callable[[str], None]] = []


def print_text(text: str) -> None:
    """Print a result on standard output, at once, so that a program behind a pipe can go on.

    Raises:
        typer.Exit: the reader has gone.
        MmllmError: standard output cannot be written (a full disk).
    """
    if _above_the_bar and sys.stdout.isatty():
        _above_the_bar[0](text)
        return
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # Raised as an exit, because typer would turn the broken pipe into exit code 1.
        discard_output()
        raise typer.Exit(PIPE_CLOSED) from None
    except OSError as exc:
        from mobile_multimodal.errors import MmllmError

        discard_output()
        raise MmllmError(f"standard output cannot be written: {exc.strerror}") from exc


def print_json(row: Mapping[str, Any]) -> None:
    """Print one JSON document on one line; a number that JSON does not know is a ``ValueError``."""
    text = json.dumps(row, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        text = json.dumps(row, allow_nan=False)
    print_text(text)


def print_error(message: str) -> None:
    """Print one line on standard error."""
    _print_beside(f"mmllm: {one_line(message)}")


def print_note(message: str) -> None:
    """Print one line on standard error that is no error."""
    _print_beside(dim(f"mmllm: {one_line(message)}", sys.stderr))


def dim(text: str, stream: Any = None) -> str:
    """Dim the text where it goes to a terminal (standard output unless told); elsewhere leave it."""
    stream = sys.stdout if stream is None else stream
    if stream is None or not stream.isatty() or os.environ.get("NO_COLOR"):
        return text
    return typer.style(text, dim=True)


def one_line(text: str) -> str:
    """The text without line breaks and control characters, which a file name may hold."""
    return "".join(
        " " if char in "\r\n\t" else char for char in text if char in "\r\n\t" or _is_visible(char)
    )


def discard_output() -> None:
    """Send what standard output still holds nowhere, so that the interpreter can end quietly."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


@contextmanager
def progress(label: str, *, total: int | None = None, wanted: bool = True) -> Iterator[Progress]:
    """Show a progress bar on standard error, where that is a terminal."""
    if not wanted or sys.stderr is None or not sys.stderr.isatty():
        yield _NoProgress()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar
    from rich.text import Text

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Bar(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False)
    with bar:
        # Soft-wrapped: a line broken at the terminal's width could not be copied as it is.
        _above_the_bar.append(lambda text: console.print(Text.from_ansi(text), soft_wrap=True))
        try:
            yield _BarProgress(bar, bar.add_task(label, total=total))
        finally:
            _above_the_bar.clear()


class _NoProgress:
    def show(self, done: int, total: int) -> None:
        """Show nothing."""


class _BarProgress:
    def __init__(self, bar: Any, task: Any) -> None:
        self._bar = bar
        self._task = task

    def show(self, done: int, total: int) -> None:
        self._bar.update(self._task, completed=done, total=total)


def _is_visible(char: str) -> bool:
    return unicodedata.category(char) not in ("Cc", "Cf", "Zl", "Zp")


def _print_beside(line: str) -> None:
    if sys.stderr is None:
        return
    if _above_the_bar:
        _above_the_bar[0](line)
        return
    try:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
    except OSError:  # nobody can be told
        return
