"""Exit codes, what goes to which stream, interruption, and how quickly it starts."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mmllm_cli.app import app
from tests.mmllm_cli.conftest import ROOT, CommandLine, only_one_line
from tests.mmllm_cli.picture_server import PictureServer

COMMANDS = (
    "caption",
    "ocr",
    "vqa",
    "run",
    "batch",
    "eval",
    "benchmark",
    "compare",
    "quality-gate",
    "info",
    "doctor",
)


def test_every_command_is_listed_and_has_help(mmllm: CommandLine) -> None:
    listed = mmllm("--help")
    assert listed.code == 0
    for command in COMMANDS:
        assert f"\n  {command} " in listed.out
    assert {info.name for info in app.registered_commands} >= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command(mmllm: CommandLine, command: str) -> None:
    done = mmllm(command, "--help")
    assert done.code == 0
    assert done.err == ""
    assert done.out.startswith(f"Usage: mmllm {command} [OPTIONS]")
    assert "--json" in done.out
    assert "<class" not in done.out


def test_help_is_quick_and_light(mmllm: CommandLine) -> None:
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert mmllm("--help").code == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) <= 0.3
    assert not imported(mmllm, "--help") & {"numpy", "PIL", "onnxruntime", "torch", "cv2", "rich"}


def imported(mmllm: CommandLine, *arguments: str | Path) -> set[str]:
    """The top-level modules that a command imports, as Python's own log of imports says."""
    command = mmllm.command(*arguments)
    command[1:1] = ["-X", "importtime"]
    done = subprocess.run(
        command, capture_output=True, cwd=ROOT, env=mmllm.environment, timeout=300, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return {match[1] for match in re.finditer(r"\|\s+([A-Za-z_0-9]+)(?:\.\S*)?$", done.stderr, re.MULTILINE)}


@pytest.mark.parametrize("command", ["caption", "vqa"])
def test_captions_and_answers_never_import_torch_or_opencv(
    mmllm: CommandLine, photo: Path, command: str
) -> None:
    question = ["what is this?"] if command == "vqa" else []
    modules = imported(mmllm, command, photo, *question)
    assert "PIL" in modules
    assert not modules & {"torch", "cv2", "onnx", "safetensors", "transformers", "rich", "scipy"}


def test_reading_text_never_imports_torch(mmllm: CommandLine, photo: Path) -> None:
    assert "torch" not in imported(mmllm, "ocr", photo)


def test_version(mmllm: CommandLine) -> None:
    done = mmllm("--version")
    assert done.code == 0
    assert re.fullmatch(r"mmllm \d+\.\d+\.\d+\n", done.out)


def test_ctrl_c_is_one_line_and_exit_130(mmllm: CommandLine, server: PictureServer) -> None:
    server.asked.clear()
    # Longer than any machine takes to deliver the signal: a read that times out is another error.
    process = mmllm.start("caption", f"{server.base}/silent", "--json", "--url-timeout", "600")
    assert server.asked.wait(300), "the picture was never asked for"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert json.loads(out)["error"]["type"] == "Interrupted"
    assert err.decode().splitlines() == ["mmllm: interrupted"]


def test_a_closed_pipe_is_quiet(mmllm: CommandLine, photo: Path) -> None:
    process = mmllm.start("caption", "--batch-size", "1", *[photo] * 40)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(timeout=300) == 141
    process.stderr.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_one_line(mmllm: CommandLine, photo: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            mmllm.command("caption", photo),
            stdout=full,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            env=mmllm.environment,
            timeout=300,
        )
    assert done.returncode == 3
    assert "standard output cannot be written" in only_one_line(done.stderr.decode().splitlines())


def test_a_crash_is_one_line_with_a_way_to_the_traceback(tmp_path: Path) -> None:
    program = tmp_path / "crash.py"
    program.write_text(
        "import sys, typer\n"
        "from mmllm_cli.errors_to_exit import run_app\n"
        "app = typer.Typer(rich_markup_mode=None)\n"
        "@app.command()\n"
        "def crash(as_json: bool = typer.Option(False, '--json')) -> None:\n"
        "    raise ZeroDivisionError('nothing left')\n"
        "sys.exit(run_app(app, sys.argv[1:]))\n"
    )

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(program), *arguments]
        path = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
        return subprocess.run(command, capture_output=True, text=True, env=path, timeout=300)

    done = run("--json")
    assert done.returncode == 1
    line = only_one_line(done.stderr.splitlines())
    assert line == "mmllm: crashed: ZeroDivisionError: nothing left (MMLLM_DEBUG=1 shows where)"
    error: dict[str, Any] = json.loads(done.stdout)["error"]
    assert error["type"] == "ZeroDivisionError"
    assert "Traceback" in run(MMLLM_DEBUG="1").stderr
