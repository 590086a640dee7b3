"""What a person at a terminal sees."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mmllm_cli.conftest import ROOT, CommandLine

if sys.platform == "win32":
    pytest.skip("no pseudo terminals on Windows", allow_module_level=True)

import pty


def seen(mmllm: CommandLine, *arguments: str | Path, stdout_too: bool = True, code: int = 0) -> str:
    """What a terminal of 80 columns is sent."""
    ours, theirs = pty.openpty()
    environment = {**mmllm.environment, "TERM": "xterm", "COLUMNS": "80"}
    process = subprocess.Popen(
        mmllm.command(*arguments),
        stdin=theirs,
        stdout=theirs if stdout_too else subprocess.DEVNULL,
        stderr=theirs,
        cwd=ROOT,
        env=environment,
    )
    os.close(theirs)
    received = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # Linux says so when the other side has closed
            break
        if not piece:
            break
        received += piece
    os.close(ours)
    assert process.wait(timeout=300) == code
    return received.decode()


def test_one_picture_has_its_confidence_and_no_bar(mmllm: CommandLine, photo: Path) -> None:
    assert re.fullmatch(r"\S.*  \(0\.\d\d\)\r\n", seen(mmllm, "caption", photo))


def test_a_batch_has_a_bar_and_whole_lines(mmllm: CommandLine, photo: Path, tmp_path: Path) -> None:
    long_name = tmp_path / f"{'long' * 30}.jpg"
    long_name.write_bytes(photo.read_bytes())
    screen = seen(mmllm, "caption", photo, long_name)
    assert "pictures" in screen
    assert "2/2" in screen
    assert f"{long_name}: " in screen


def test_the_bar_stays_out_of_the_data(mmllm: CommandLine, photo: Path) -> None:
    assert "pictures" in seen(mmllm, "caption", "--json", photo, photo, stdout_too=False)


def test_a_terminal_is_not_read_as_a_picture(mmllm: CommandLine) -> None:
    assert seen(mmllm, "caption", "-", code=2).startswith("mmllm: nothing is piped into standard input")
