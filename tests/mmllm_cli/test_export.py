"""``mmllm export`` through a real process: a table, a proof, refusals, and an artifact that then runs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mmllm_cli.app import app
from mmllm_cli.errors_to_exit import run_app
from mobile_multimodal.bundle import ModelBundle, load_bundle
from tests.mmllm_cli.conftest import CommandLine, only_one_line


def test_two_targets_are_exported_proven_and_run(
    mmllm: CommandLine, tiny_bundle: ModelBundle, photo: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    done = mmllm(
        *("export", tiny_bundle.directory, "--target", "onnx", "--target", "tflite"),
        *("-o", output, "--pictures", "4", "--json"),
    )
    assert done.code == 0, done.err
    assert done.err == ""
    [document] = done.rows
    assert [row["target"] for row in document["artifacts"]] == ["onnx", "tflite"]
    for row, backend in zip(document["artifacts"], ("onnxruntime", "litert"), strict=True):
        assert row["recipe"] == "float16"
        assert load_bundle(row["output"]).sha256 == row["sha256"]
        assert [report["passed"] for report in row["parity"]] == [True]
        assert {task["task"]: task["equal"] for task in row["parity"][0]["tasks"]} == {"caption": 4, "vqa": 4}
        for part in row["components"]:
            assert 0 < part["packed_bytes"] < 1.1 * part["bytes"]
        assert row["peak_memory_mib"] > 100
        run = mmllm("caption", "--backend", backend, "--model", row["output"], photo, "--min-confidence", "0")
        assert run.code == 0, run.err
        wrong = mmllm("caption", "--backend", "torch", "--model", row["output"], photo)
        assert (wrong.code, wrong.out) == (2, "")
        assert f"give --backend {backend}" in only_one_line(wrong.error_lines)


def test_a_table_for_people_and_a_recipe_that_is_quantized_first(
    mmllm: CommandLine, tiny_bundle: ModelBundle, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    command = ("export", tiny_bundle.directory, "--target", "onnx", "--recipe", "int8", "-o", output)
    done = mmllm(*command, "--pictures", "4")
    assert done.code == 0, done.err
    header, *rows = done.out.splitlines()
    assert header.split()[:3] == ["target", "recipe", "component"]
    assert [row.split()[:3] for row in rows] == [
        ["onnx", "weight_only_wi8_afp32", "vision_encoder"],
        ["onnx", "weight_only_wi8_afp32", "text_decoder"],
    ]
    assert "onnx under onnxruntime: equal to torch: caption 4/4, vqa 4/4" in done.err
    again = mmllm(*command)
    assert (again.code, again.out) == (2, "")
    assert "exists (give --force" in only_one_line(again.error_lines)
    bare = mmllm(*command, "--force", "--no-parity")
    assert bare.code == 0
    assert "nothing was proven (--no-parity)" in bare.err
    assert ("golden vectors" in done.err, "golden vectors" in bare.err) == (True, False)
    assert not (output / "parity.json").exists()


def test_a_dry_run_predicts_and_writes_nothing(mmllm: CommandLine, tmp_path: Path) -> None:
    done = mmllm("export", "--target", "all", "--dry-run", "--json", "-o", tmp_path / "out")
    assert done.code == 0, done.err
    [document] = done.rows
    files = [part["file"] for row in document["artifacts"] for part in row["components"]]
    assert len(files) == 12
    assert {Path(file).suffix for file in files} == {".onnx", ".tflite", ".mlpackage"}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "no target (give --target onnx, tflite, coreml or all)"),
        (("--target", "onyx"), "unknown target 'onyx' (one of onnx, tflite, coreml, all)"),
        (("--target", "onnx"), "nowhere to write to"),
        (("--target", "onnx", "-o", "OUT", "--recipe", "int9"), "unknown recipe 'int9'"),
        (("--target", "onnx", "-o", "OUT", "--recipe", "int4"), "mmllm quantize --recipe int4"),
        (("--target", "onnx", "-o", "OUT", "--opset", "12"), "--opset 23 to 25"),
        (("--target", "onnx", "-o", "OUT", "--component", "text_decoder"), "make no model"),
        (("--target", "onnx", "-o", "OUT", "--static", "--ort"), "leave one out"),
        (("--target", "tflite", "-o", "OUT", "--verify-with", "jax"), "one of litert, tensorflow"),
        (("mmllm-base-int2", "--target", "onnx", "-o", "OUT", "--recipe", "float32"), "is quantized"),
    ],
)
def test_usage_errors_are_one_line_with_the_repair(
    mmllm: CommandLine, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    done = mmllm("export", *(str(tmp_path / "out") if word == "OUT" else word for word in options))
    assert (done.code, done.out) == (2, "")
    assert message in only_one_line(done.error_lines)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_proof_exits_with_4_and_says_where_the_artifact_is(
    tiny_bundle: ModelBundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from exporters.parity import Limits

    monkeypatch.setattr("exporters.export.EXACT", Limits(1e-12, 0.9999, 100.0))
    output = tmp_path / "out"
    arguments = [
        "export",
        str(tiny_bundle.directory),
        "--target",
        "onnx",
        "-o",
        str(output),
        "--pictures",
        "4",
    ]
    assert run_app(app, [*arguments, "--pictures", "4"]) == 4
    assert "max abs error" in (line := capsys.readouterr().err)
    assert f"it is kept as {output}.rejected" in line
    assert not output.exists()


def test_a_missing_converter_is_exit_3_with_the_pip_command(
    tiny_bundle: ModelBundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "litert_torch", None)
    # In this process: another would have the package.
    arguments = ["export", str(tiny_bundle.directory), "--target", "tflite", "--jobs", "1"]
    assert run_app(app, [*arguments, "-o", str(tmp_path / "out")]) == 3
    assert "pip install 'mmllm[export]'" in only_one_line(capsys.readouterr().err.splitlines())
    assert list(tmp_path.iterdir()) == []


def test_a_packaged_model_has_nothing_for_litert_and_the_line_says_what_to_do(
    mmllm: CommandLine, photo: Path
) -> None:
    done = mmllm("caption", "--backend", "litert", photo)
    assert (done.code, done.out) == (2, "")
    assert "mmllm export mmllm-base --target tflite -o mmllm-base-tflite" in only_one_line(done.error_lines)
