"""The command line as a real process, pictures good and bad, and a web server on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.mmllm_cli.picture_server import PictureServer
from tests.mmllm_cli.pictures import write_bad_pictures, write_odd_pictures

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "mobile_multimodal" / "models" / "mmllm-base"


@dataclass(frozen=True)
class Finished:
    """What a process left behind."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Every line of standard output as JSON."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def error_lines(self) -> list[str]:
        return self.err.splitlines()


class CommandLine:
    """Runs ``python -m mmllm_cli`` in a process of its own, without proxies and colours."""

    def __init__(self) -> None:
        kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        kept.pop("MMLLM_DEBUG", None)
        self.environment = {**kept, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}

    def command(self, *arguments: str | Path) -> list[str]:
        return [sys.executable, "-m", "mmllm_cli", *map(str, arguments)]

    def __call__(
        self, *arguments: str | Path, stdin: bytes | None = None, environment: dict[str, str] | None = None
    ) -> Finished:
        done = subprocess.run(
            self.command(*arguments),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            cwd=ROOT,
            env={**self.environment, **(environment or {})},
            timeout=300,
        )
        return Finished(done.returncode, done.stdout.decode(), done.stderr.decode())

    def start(self, *arguments: str | Path) -> subprocess.Popen[bytes]:
        # A shell has what it starts in the background ignore interrupts, and tests with all they start.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return self._start(*arguments)
        finally:
            signal.signal(signal.SIGINT, before)

    def _start(self, *arguments: str | Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.command(*arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            env=self.environment,
        )


@pytest.fixture(scope="session")
def mmllm() -> CommandLine:
    return CommandLine()


@pytest.fixture(scope="session")
def odd_pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_odd_pictures(tmp_path_factory.mktemp("odd"))


@pytest.fixture(scope="session")
def bad_pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_bad_pictures(tmp_path_factory.mktemp("bad"))


@pytest.fixture(scope="session")
def photo() -> Path:
    """A photo that the model is sure enough of to caption it without being asked twice."""
    return ROOT / "examples" / "images" / "dog.jpg"


@pytest.fixture(scope="session")
def packaged_model() -> Path:
    assert MODELS.is_dir(), "the model ships with the package"
    return MODELS


@pytest.fixture(scope="session")
def server(photo: Path) -> Iterator[PictureServer]:
    with PictureServer(photo.read_bytes()) as running:
        yield running


def only_one_line(lines: Sequence[str]) -> str:
    assert len(lines) == 1, lines
    return lines[0]
