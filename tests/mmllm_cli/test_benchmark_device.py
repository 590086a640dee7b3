"""``mmllm benchmark --device`` in real processes, with phones behind a scripted adb."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from benchmarks.adb import BINARY_VARIABLE
from benchmarks.report import load_report
from tests.benchmarks.scripted_adb import SCRIPTED_BENCHMARK_MODEL, Phones, write_artifact, write_program
from tests.mmllm_cli.conftest import CommandLine, only_one_line


@pytest.fixture
def phones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Phones:
    scripted = Phones(tmp_path)
    monkeypatch.setenv("PATH", f"{scripted.path}{os.pathsep}{os.environ['PATH']}")
    program = write_program(tmp_path / "benchmark_model_of_android", SCRIPTED_BENCHMARK_MODEL)
    monkeypatch.setenv(BINARY_VARIABLE, str(program))
    return scripted


@pytest.fixture
def mmllm(phones: Phones) -> CommandLine:
    """A command line that finds the scripted adb: it keeps the environment that it is made in."""
    return CommandLine()


def test_phones_are_listed_with_their_state(mmllm: CommandLine, phones: Phones) -> None:
    nobody = mmllm("benchmark", "--device", "list")
    assert (nobody.code, nobody.out) == (0, "")
    assert "no phone is attached" in only_one_line(nobody.error_lines)
    phones.attach("A1")
    phones.attach("B2", "unauthorized")
    lines = mmllm("benchmark", "--device", "list").out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["device", "state"],
        ["adb:A1", "device"],
        ["adb:B2", "unauthorized"],
    ]
    [document] = mmllm("benchmark", "--device", "list", "--json").rows
    assert [row["serial"] for row in document["devices"]] == ["A1", "B2"]


def test_an_artifact_is_measured_on_a_phone(mmllm: CommandLine, phones: Phones, tmp_path: Path) -> None:
    phones.attach("A1")
    artifact, report = write_artifact(tmp_path / "tflite"), tmp_path / "report.json"
    command = ("benchmark", str(artifact.directory), "--device", "adb:A1", "--num-runs", "70")
    done = mmllm(*command, "-o", str(report))
    assert done.code == 0, done
    assert "Some Phone, SM1234, Android 15" in done.out
    assert any(line.split()[:3] == ["encode_ms", "41", "ms"] for line in done.out.splitlines())
    assert "no phone was used in our tests" in done.err
    [kept] = load_report(report)
    assert kept.metric("decode_step_ms").center == pytest.approx(2.0004)
    [document] = mmllm(*command, "--json").rows
    assert (
        document["reports"][0]["metrics"].keys()
        == json.loads(report.read_text())["reports"][0]["metrics"].keys()
    )


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--device", "adb"), 2, "a phone needs an artifact"),
        (("DIR", "--device", "adb"), 3, "no phone is attached"),
        (("DIR", "--device", "usb"), 2, "unknown device 'usb' (adb, adb:SERIAL or list)"),
        (("DIR", "--device", "adb", "--op-tracing"), 2, "--op-tracing does not go with --device"),
        (("mmllm-base", "--device", "adb", "--plot", "x.png"), 2, "--plot does not go with --device"),
    ],
)
def test_what_a_phone_cannot_do_is_one_line(
    mmllm: CommandLine, phones: Phones, tmp_path: Path, options: tuple[str, ...], code: int, said: str
) -> None:
    directory = str(write_artifact(tmp_path / "tflite").directory)
    done = mmllm("benchmark", *(directory if word == "DIR" else word for word in options))
    assert (done.code, done.out) == (code, "")
    assert said in only_one_line(done.error_lines)
