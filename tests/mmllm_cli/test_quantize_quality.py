"""``mmllm quantize --eval-data`` and ``--plot`` through a real process, on a tiny model and a few photos."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from mmllm_cli.app import app
from mmllm_cli.errors_to_exit import run_app
from mobile_multimodal.bundle import ModelBundle, load_bundle
from tests.benchmarks.small_data import CAPTION_ROWS, QUESTION_ROWS, write_jsonl, write_photos
from tests.mmllm_cli.conftest import CommandLine, only_one_line


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    write_photos(folder)
    write_jsonl(folder / "captions_val.jsonl", CAPTION_ROWS)
    write_jsonl(folder / "vqa_val.jsonl", QUESTION_ROWS)
    return folder


@pytest.fixture
def rough(tmp_path: Path) -> Path:
    """A recipe that changes what a model says."""
    rules = [{"component": "*", "tensor": "*", "bits": 2}]
    path = tmp_path / "rough.json"
    path.write_text(json.dumps({"schema_version": 1, "name": "rough", "summary": "", "rules": rules}))
    return path


def test_one_document_with_both_models_figures_and_a_plot(
    mmllm: CommandLine, tiny_bundle: ModelBundle, data: Path, rough: Path, tmp_path: Path
) -> None:
    output, plot = tmp_path / "q", tmp_path / "noise.png"
    done = mmllm(
        "quantize",
        tiny_bundle.directory,
        "--recipe",
        rough,
        "-o",
        output,
        "--eval-data",
        data,
        "--plot",
        plot,
        "--json",
    )
    assert done.code == 0, done.err
    [row] = done.rows
    quality = row["quality"]
    assert (quality["images"], quality["questions"], quality["pages"]) == (5, 6, 0)
    # The tiny model reads no text, so there is no error rate of pages.
    assert quality["metrics"].keys() == {"cider_d", "vqa_accuracy_percent", "exact_match_percent"}
    for values in quality["metrics"].values():
        assert values.keys() == {"float", "quantized", "kept_percent", "difference"}
        assert values["difference"] == values["quantized"] - values["float"]
    # Two bits without clipping leave little of a model: equal captions would be the float model's own.
    assert quality["caption_agreement_percent"] < 100.0
    assert load_bundle(output).recipe == row["recipe"] == "rough"
    assert row["plot"] == str(plot)
    assert Image.open(io.BytesIO(plot.read_bytes())).format == "PNG"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "noise.png", "q", "rough.json"]


def test_the_shipped_model_keeps_its_quality_in_8_bits(
    mmllm: CommandLine, odd_pictures: dict[str, Path], tmp_path: Path
) -> None:
    rows = [
        {"image": odd_pictures[name].name, "captions": ["A meadow under a blue sky.", "A green field."]}
        for name in ("plain", "grey")
    ]
    write_jsonl(tmp_path / "captions_val.jsonl", rows)
    asked = [{"image": row["image"], "question": "what is it?", "answer": "field"} for row in rows]
    write_jsonl(tmp_path / "vqa_val.jsonl", asked)
    for name in ("plain", "grey"):
        (tmp_path / odd_pictures[name].name).write_bytes(odd_pictures[name].read_bytes())
    done = mmllm("quantize", "-o", tmp_path / "q", "--eval-data", tmp_path, "--eval-limit", "2")
    assert done.code == 0, done.err
    sizes, table = done.out.split("\n\n")
    assert sizes.startswith("component")
    lines = [line.split() for line in table.splitlines()]
    assert lines[0] == ["metric", "float", "quantized", "kept", "%", "points", "samples"]
    assert [line[0] for line in lines[1:]] == [
        "cider_d",
        "vqa_accuracy_percent",
        "exact_match_percent",
        "cer_percent",
        "caption_agreement_percent",
    ]
    [cer] = [line for line in lines if line[0] == "cer_percent"]
    assert float(cer[3]) == pytest.approx(float(cer[2]) - float(cer[1]), abs=0.011)
    assert max(float(cer[1]), float(cer[2])) < 3.0
    assert len({line.rindex(line.split()[-1]) + len(line.split()[-1]) for line in table.splitlines()}) == 1


def test_a_missing_file_stops_it_before_any_work(
    mmllm: CommandLine, tiny_bundle: ModelBundle, data: Path, tmp_path: Path
) -> None:
    (data / "vqa_val.jsonl").unlink()
    output = tmp_path / "q"
    done = mmllm("quantize", tiny_bundle.directory, "-o", output, "--eval-data", data)
    assert (done.code, done.out) == (3, "")
    assert f"{data}: there is no vqa_val.jsonl (name a folder" in only_one_line(done.error_lines)
    assert not output.exists()


def test_a_missing_photo_stops_it_before_any_work(
    capsys: pytest.CaptureFixture[str], tiny_bundle: ModelBundle, data: Path, tmp_path: Path
) -> None:
    (data / "b.tar").unlink()
    output = tmp_path / "q"
    arguments = ["quantize", str(tiny_bundle.directory), "-o", str(output), "--eval-data", str(data)]
    assert run_app(app, arguments) == 3
    assert "captions_val.jsonl:4: flickr8k/1.png" in only_one_line(capsys.readouterr().err.splitlines())
    assert not output.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--dry-run", "--plot", "noise.png"], "leave --plot and --eval-data out, or --dry-run"),
        (["--dry-run", "-o", "q", "--eval-data", "."], "leave --plot and --eval-data out, or --dry-run"),
        (["-o", "q", "--eval-limit", "4"], "give --eval-data DIR too"),
        (["-o", "q", "--eval-data", ".", "--eval-limit", "1"], "--eval-limit"),
        (["-o", "q", "--plot", "noise.svg"], "give a name that ends in .png"),
        (["-o", "q", "--plot", "no/where/noise.png"], "does not exist"),
    ],
)
def test_options_that_do_not_fit(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_app(app, ["quantize", *arguments]) == 2
    assert words in only_one_line(capsys.readouterr().err.splitlines())
    assert list(tmp_path.iterdir()) == []
