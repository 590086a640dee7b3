"""Models that cannot be trusted are refused with one line and exit 3, through a real process."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mmllm_cli.conftest import CommandLine, only_one_line


@pytest.fixture
def copied_model(packaged_model: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "model"
    shutil.copytree(packaged_model / "onnx_int8", copy)
    return copy


def largest_file(model: Path) -> Path:
    return max((path for path in model.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def tamper(model: Path) -> str:
    """Change one byte in the middle of the weights."""
    path = largest_file(model)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return path.name


def truncate(model: Path) -> str:
    path = largest_file(model)
    path.write_bytes(path.read_bytes()[:-100])
    return path.name


def remove(model: Path) -> str:
    path = largest_file(model)
    path.unlink()
    return path.name


def make_newer(model: Path) -> str:
    """Give the description a schema of years to come."""
    path = model / "artifact.json"
    description = json.loads(path.read_text())
    description["schema_version"] = 999
    path.write_text(json.dumps(description))
    return "999"


def break_description(model: Path) -> str:
    path = model / "artifact.json"
    path.write_text(path.read_text()[:-20])
    return "artifact.json"


def empty(model: Path) -> str:
    shutil.rmtree(model)
    model.mkdir()
    return str(model)


@pytest.mark.parametrize("damage", [tamper, truncate, remove, make_newer, break_description, empty])
def test_a_damaged_model_is_refused(
    mmllm: CommandLine, copied_model: Path, photo: Path, damage: Callable[[Path], str]
) -> None:
    named = damage(copied_model)
    done = mmllm("caption", photo, "--model", copied_model, "--json")
    assert done.code == 3, done.err
    line = only_one_line(done.error_lines)
    assert named in line
    error = json.loads(done.out)["error"]
    assert error["type"] == "BundleError"
    assert error["remedy"]


def test_a_whole_copy_is_used(mmllm: CommandLine, copied_model: Path, photo: Path) -> None:
    copied = mmllm("caption", photo, "--model", copied_model)
    assert copied.code == 0, copied.err
    assert copied.out == mmllm("caption", photo).out


def test_doctor_says_what_is_broken(mmllm: CommandLine, copied_model: Path) -> None:
    named = tamper(copied_model)
    done = mmllm("doctor", "--model", copied_model, "--json")
    assert done.code == 3
    [row] = done.rows
    broken = [check for check in row["checks"] if check["status"] == "broken"]
    assert row["status"] == "broken"
    assert [check["name"] for check in broken] == ["model"]
    assert named in broken[0]["detail"]
    assert broken[0]["remedy"]
