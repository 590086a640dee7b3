"""``mmllm quantize --recipe mixed`` through a real process: a size is asked for, and kept."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mmllm_cli.app import app
from mmllm_cli.errors_to_exit import run_app
from mobile_multimodal.bundle import ModelBundle, load_bundle
from tests.mmllm_cli.conftest import CommandLine, only_one_line

MIB = 2**20


def bytes_on_disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def test_the_bundle_is_no_larger_than_asked(
    mmllm: CommandLine, tiny_bundle: ModelBundle, tiny_pictures: tuple[Path, ...], tmp_path: Path
) -> None:
    output = tmp_path / "q"
    (broken := tiny_pictures[0].parent / "broken.png").write_bytes(b"no picture")
    options = ("--recipe", "mixed", "--target-size-mib", "3", "--calibration-data", broken.parent, "--json")
    try:
        done = mmllm("quantize", tiny_bundle.directory, *options, "-o", output)
        dry = mmllm("quantize", tiny_bundle.directory, *options, "--dry-run")
    finally:
        broken.unlink()
    assert done.code == 0, done.err
    assert "broken.png is skipped" in only_one_line(done.error_lines)
    [row], [predicted] = done.rows, dry.rows
    assert row["calibration"]["pictures"] == 32
    assert row["mixed"]["target_size_mib"] == 3.0
    assert 0.9 * 3 * MIB < bytes_on_disk(output) <= row["mixed"]["predicted_bytes"] <= 3 * MIB
    assert load_bundle(output).recipe == row["recipe"] == "mixed_3.00mib"
    assert {tensor["bits"] for tensor in row["tensors"]} > {4, 8}
    # The dry run has made the same choice, and says what would be written.
    assert (predicted["recipe"], predicted["output"], predicted["mixed"]) == (
        row["recipe"],
        None,
        row["mixed"],
    )
    assert [part["bytes_predicted"] for part in predicted["components"]] == [
        part["bytes_predicted"] for part in row["components"]
    ]


def test_an_impossible_size_names_the_smallest_which_then_succeeds(
    mmllm: CommandLine, tiny_bundle: ModelBundle, tiny_pictures: tuple[Path, ...], tmp_path: Path
) -> None:
    output = tmp_path / "q"
    given = ("--recipe", "mixed", "--calibration-data", tiny_pictures[0].parent, "-o", output)
    done = mmllm("quantize", tiny_bundle.directory, *given, "--target-size-mib", "0.5")
    assert (done.code, done.out) == (2, "")
    line = only_one_line(done.error_lines)
    assert "0.5 MiB is below the smallest possible size" in line
    assert not output.exists()
    [least] = re.findall(r"give --target-size-mib ([\d.]+) or more", line)
    done = mmllm("quantize", tiny_bundle.directory, *given, "--target-size-mib", least)
    assert done.code == 0, done.err
    assert f"mixed_{least}mib: all files together, the vocabulary too, take at most {least} MiB" in done.err
    assert bytes_on_disk(output) <= float(least) * MIB
    assert "weights in 2 bits were not trained for that" in done.err
    assert "ask for more MiB" in done.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--recipe", "mixed", "--calibration-data", "."], "give --target-size-mib N too"),
        (["--recipe", "mixed", "--target-size-mib", "9"], "name a folder with --calibration-data"),
        (["--target-size-mib", "9"], "give --recipe mixed too"),
        (["--recipe", "int4", "--target-size-mib", "9", "--calibration-data", "."], "give --recipe mixed"),
        (["--recipe", "mixed", "--target-size-mib", "0"], "--target-size-mib 0 is no size"),
        (["--recipe", "mixed", "--target-size-mib", "-3"], "give a positive number of MiB"),
        (["--recipe", "mixed", "--target-size-mib", "nan"], "--target-size-mib nan is no size"),
        (["--recipe", "mixed", "--target-size-mib", "inf"], "--target-size-mib inf is no size"),
        (["--recipe", "mixed", "--target-size-mib", "small"], "--target-size-mib"),
        (["--recipe", "mixed", "--finetune", "my.jsonl"], "name another recipe, such as int4"),
        (["--recipe", "mixd"], "static_wi8_ai8 (int8-static), weight_only_wi2_afp32 (int2)"),
        (["--recipe", "mixd"], ", mixed, or a .json file"),
    ],
)
def test_options_that_do_not_fit(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    options: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_app(app, ["quantize", *options, "-o", "q"]) == 2
    assert words in only_one_line(capsys.readouterr().err.splitlines())
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_exists_is_refused_before_any_picture_is_looked_at(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    given = ["--recipe", "mixed", "--target-size-mib", "9", "--calibration-data", str(tmp_path / "gone")]
    assert run_app(app, ["quantize", *given, "-o", str(tmp_path)]) == 2
    assert "exists (give --force" in only_one_line(capsys.readouterr().err.splitlines())
