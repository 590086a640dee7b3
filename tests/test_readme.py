"""The documents' blocks are run: each command exits 0 and prints what the document says it prints."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import typer

from mmllm_cli.app import app
from tests.run_programs import explain, run_program
from tests.source_tree import ROOT, repository_files

DOCUMENTS = [path for path in repository_files() if path.suffix == ".md"]
# What stands behind these is run by other means, or is another tool's own affair.
NOT_RUN = {"make", "pip", "pre-commit", "git"}


class ShownCommand(NamedTuple):
    """A command line of a document and the output that the document shows under it."""

    line: str
    output: str


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def shown_commands(text: str) -> list[ShownCommand]:
    commands = []
    for block in blocks(text, "console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, _, output = part.partition("\n")
            commands.append(ShownCommand(line, output.strip()))
    return commands


def as_parameters(found: list[tuple[Path, ShownCommand]]) -> list[object]:
    # The cards of the packaged models show some commands again: each is run once.
    first = {command: path for path, command in reversed(found)}
    return [pytest.param(command, id=f"{path}: {command.line[:60]}") for command, path in first.items()]


SHOWN = [
    (path, command) for path in DOCUMENTS for command in shown_commands((ROOT / path).read_text("utf-8"))
]
OF_OURS = [(path, command) for path, command in SHOWN if command.line.startswith("mmllm ")]
OF_MAKE = [(path, command) for path, command in SHOWN if command.line.startswith("make ")]
PYTHON = list(
    dict.fromkeys(block for path in DOCUMENTS for block in blocks((ROOT / path).read_text("utf-8"), "python"))
)


def test_the_readme_shows_the_two_commands_and_ours() -> None:
    lines = [command.line for command in shown_commands((ROOT / "README.md").read_text("utf-8"))]
    assert [line for line in lines if re.fullmatch(r"make caption IMAGE=examples/images/\w+\.jpg", line)]
    assert "make test" in lines
    assert {line.split()[1] for line in lines if line.startswith("mmllm ")} >= {"caption", "ocr", "vqa"}


def test_no_command_is_passed_over() -> None:
    programs = {command.line.split()[0] for _, command in SHOWN}
    assert programs <= NOT_RUN | {"mmllm"}
    # A block in another shell dialect would not be seen above.
    text = "".join((ROOT / path).read_text("utf-8") for path in DOCUMENTS)
    assert not blocks(text, r"(?:sh|bash|shell|zsh)")


@pytest.mark.parametrize("command", as_parameters(OF_OURS))
def test_commands_of_the_documents_run(command: ShownCommand) -> None:
    done = run_program(shlex.split(command.line, comments=True))
    assert done.returncode == 0, explain(done)
    assert done.stdout.strip(), explain(done)
    if command.output:
        # "…" stands for anything: times differ from run to run.
        expected = ".*".join(re.escape(piece) for piece in re.split("…", command.output))
        assert re.fullmatch(expected, done.stdout.strip(), re.DOTALL), explain(done)


@pytest.mark.parametrize("command", as_parameters(OF_MAKE))
def test_targets_of_the_documents_exist(command: ShownCommand) -> None:
    words = shlex.split(command.line, comments=True)
    done = subprocess.run([words[0], "--dry-run", *words[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("program", PYTHON)
def test_python_of_the_documents_runs(program: str) -> None:
    done = run_program([sys.executable, "-c", program])
    assert done.returncode == 0, explain(done)
    assert done.stdout.strip()


def command_names() -> list[str]:
    commands = getattr(typer.main.get_command(app), "commands", {})
    return sorted(commands)


def test_the_commands_of_the_issue_are_there() -> None:
    assert {"caption", "ocr", "vqa", "run", "eval", "info", "doctor"} <= set(command_names())


@pytest.mark.parametrize("name", ["", *command_names()])
def test_every_help_is_printed_to_stdout(name: str) -> None:
    done = run_program(["mmllm", *name.split(), "--help"])
    assert done.returncode == 0, explain(done)
    assert "Usage: mmllm" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("name", command_names())
def test_the_readme_has_a_row_for_every_command(name: str) -> None:
    assert f"\n| `{name}` |" in (ROOT / "README.md").read_text("utf-8")


def test_blocks_are_taken_apart_rightly() -> None:
    text = "```console\n$ mmllm info\nname …\n\n$ make test\n```\n```python\nprint(1)\n```\n"
    assert shown_commands(text) == [ShownCommand("mmllm info", "name …"), ShownCommand("make test", "")]
    assert blocks(text, "python") == ["print(1)\n"]
