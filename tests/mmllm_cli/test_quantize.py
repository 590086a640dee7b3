"""``mmllm quantize`` through a real process: sizes, refusals, and a bundle that then runs."""

from __future__ import annotations

from pathlib import Path

from tests.mmllm_cli.conftest import CommandLine, only_one_line


def test_a_dry_run_writes_nothing(mmllm: CommandLine, tmp_path: Path) -> None:
    done = mmllm("quantize", "--recipe", "int4", "--dry-run", "--json", "-o", tmp_path / "q")
    [row] = done.rows
    assert done.code == 0
    assert row["output"] is None
    assert row["recipe"] == "weight_only_wi4_g32_afp32"
    assert 0.25 < row["bytes_after"] / row["bytes_before"] < 0.30
    assert not (tmp_path / "q").exists()


def test_the_quantized_bundle_captions_and_is_named(mmllm: CommandLine, photo: Path, tmp_path: Path) -> None:
    output = tmp_path / "q"
    done = mmllm("quantize", "--recipe", "int8", "-o", output, "--tensors")
    assert done.code == 0, done.err
    assert only_one_line(done.error_lines).endswith(f"--backend torch --model {output} PICTURE")
    assert done.out.count("text_decoder") > 50
    run = mmllm("caption", "--backend", "torch", "--model", output, photo)
    assert run.code == 0, run.err
    assert "dog" in run.out
    again = mmllm("quantize", "-o", output)
    assert (again.code, again.out) == (2, "")
    assert "exists (give --force" in only_one_line(again.error_lines)
    twice = mmllm("quantize", output, "-o", tmp_path / "r")
    assert twice.code == 2
    assert "quantized already" in only_one_line(twice.error_lines)


def test_nowhere_to_write_to_and_unknown_recipes_are_usage_errors(mmllm: CommandLine, tmp_path: Path) -> None:
    done = mmllm("quantize")
    assert done.code == 2
    assert "give -o DIR, or --dry-run" in only_one_line(done.error_lines)
    done = mmllm("quantize", "--recipe", "int9", "-o", tmp_path / "q")
    assert done.code == 2
    assert "weight_only_wi8_afp32 (int8)" in only_one_line(done.error_lines)
    assert not (tmp_path / "q").exists()
