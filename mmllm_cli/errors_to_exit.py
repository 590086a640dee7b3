"""The border: every exception becomes one line on standard error and an exit code."""

from __future__ import annotations

import itertools
import os
import sys
import traceback
import warnings
from collections.abc import Mapping, Sequence

import typer

from mmllm_cli.console import PIPE_CLOSED, discard_output, print_error, print_json

__all__ = ["CRASH", "INTERRUPTED", "error_row", "run_app", "wants_json"]

CRASH = 1
INTERRUPTED = 130


def run_app(app: typer.Typer, arguments: Sequence[str]) -> int:
    """Run one command and turn what it raises into an exit code.

    Known errors and usage errors print one line; with ``--json`` also ``{"error": …}`` on standard
    output. An unknown exception is a crash, exit 1; ``MMLLM_DEBUG=1`` shows every traceback.
    """
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    for stream in (sys.stdout, sys.stderr):
        # A file name or a read character that the terminal cannot show must not end the program.
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        return _run(app, arguments)
    except typer.Exit as exc:  # while an error was printed
        return exc.exit_code


def _run(app: typer.Typer, arguments: Sequence[str]) -> int:
    try:
        code = app(list(arguments), prog_name="mmllm", standalone_mode=False) or 0
        sys.stdout.flush()
    except BrokenPipeError:
        discard_output()
        return PIPE_CLOSED
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as exc:  # noqa: BLE001 - the one border of the command line
        code = _report(exc, as_json=wants_json(arguments))
    if code == INTERRUPTED:
        row = {"type": "Interrupted", "message": "interrupted", "remedy": None}
        _tell("interrupted", row, as_json=wants_json(arguments))
    return int(code)


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether the arguments ask for JSON, seen without parsing them, for they may be wrong."""
    return any(word in ("--json", "--format=json", "-fjson") for word in arguments) or any(
        name in ("--format", "-f") and value == "json" for name, value in itertools.pairwise(arguments)
    )


def error_row(exc: BaseException) -> dict[str, str | None]:
    """The JSON form of an error: its type, message and remedy."""
    return {
        "type": type(exc).__name__,
        "message": str(getattr(exc, "message", exc)),
        "remedy": getattr(exc, "remedy", None),
    }


def _remedy(exc: typer.TyperException) -> str:
    context = getattr(exc, "ctx", None)
    commands = getattr(getattr(context, "command", None), "commands", None)
    if commands and " command" in exc.message:
        return f"one of {', '.join(commands)}"
    return f"see {getattr(context, 'command_path', 'mmllm')} --help"


def _report(exc: Exception, *, as_json: bool) -> int:
    from mobile_multimodal.errors import MmllmError, UsageError

    if os.environ.get("MMLLM_DEBUG", "") not in ("", "0"):
        traceback.print_exception(exc)
    if isinstance(exc, typer.TyperException):
        exc = UsageError(exc.format_message().rstrip("."), remedy=_remedy(exc))
    if isinstance(exc, MmllmError):
        line, code = str(exc), exc.exit_code
    else:
        line = f"crashed: {type(exc).__name__}: {exc} (MMLLM_DEBUG=1 shows where)"
        code = CRASH
    _tell(line, error_row(exc), as_json=as_json)
    return code


def _tell(line: str, row: Mapping[str, str | None], *, as_json: bool) -> None:
    print_error(line)
    if as_json:
        print_json({"error": row})
