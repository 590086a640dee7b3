"""``mmllm quantize`` through a real process: sizes, refusals, and a bundle that then runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from mobile_multimodal.bundle import ModelBundle, load_bundle
from mobile_multimodal.quantized_tensor import QuantizedTensor
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


def write_squares(folder: Path) -> Path:
    """Ten captioned squares as a ``.jsonl``."""
    rows = []
    for number in range(10):
        color = ("red", "blue")[number % 2]
        Image.new("RGB", (40, 30), color).save(folder / f"{number}.png")
        rows.append({"image": f"{number}.png", "captions": [f"A {color} square.", f"All {color}."]})
    path = folder / "my.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_two_bits_are_trained_on_ones_own_pictures(
    mmllm: CommandLine, tiny_bundle: ModelBundle, tmp_path: Path
) -> None:
    data, output = write_squares(tmp_path), tmp_path / "q"
    tiny = tiny_bundle.directory
    done = mmllm(
        *("quantize", tiny, "--recipe", "int2", "--finetune", data, "--epochs", "2", "-o", output, "--json")
    )
    assert done.code == 0, done.err
    [row] = done.rows
    trained = {tensor["tensor"] for tensor in row["tensors"] if tensor["algorithm"] == "trained"}
    assert "layers.0.expand.weight" in trained
    assert "trained on 8 pictures; on 2 held out: cider" in done.err
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["q"]
    untrained = mmllm("quantize", tiny, "--recipe", "int2", "-o", tmp_path / "r")
    assert untrained.code == 0, untrained.err
    assert "weights in 2 bits were not trained" in untrained.err
    learned, plain = (
        load_bundle(folder).stored_weights("text_decoder")["layers.0.expand.weight"]
        for folder in (output, tmp_path / "r")
    )
    assert isinstance(learned, QuantizedTensor)
    assert isinstance(plain, QuantizedTensor)
    assert learned.scheme == plain.scheme
    assert not np.array_equal(learned.dequantize(), plain.dequantize())


def test_what_training_cannot_do_is_refused(
    mmllm: CommandLine, tiny_bundle: ModelBundle, tmp_path: Path
) -> None:
    data = write_squares(tmp_path)
    for more, message in ((("--dry-run",), "leave --dry-run out"), ((), "--calibration-data")):
        done = mmllm("quantize", "--recipe", "int2", "--finetune", data, "-o", tmp_path / "q", *more)
        assert done.code == 2
        assert message in only_one_line(done.error_lines)
    done = mmllm("quantize", "--recipe", "int8-static", "--finetune", data, "-o", tmp_path / "q")
    assert done.code == 2
    assert "rounds the inputs of layers" in only_one_line(done.error_lines)
    tiny = tiny_bundle.directory
    missing = mmllm("quantize", tiny, "--recipe", "int2", "--finetune", tmp_path / "no", "-o", tmp_path / "q")
    assert missing.code == 3
    assert str(tmp_path / "no") in only_one_line(missing.error_lines)
    assert not (tmp_path / "q").exists()
