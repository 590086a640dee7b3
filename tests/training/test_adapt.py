"""Training on one's own pictures: bad rows are named, figures are real, nothing is overwritten."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import training.adapt
from benchmarks.caption_metrics import CiderD, tokenize
from mobile_multimodal import MobileMultiModalLLM
from mobile_multimodal.bundle import ModelBundle, load_bundle
from mobile_multimodal.errors import DataError, MmllmError, UsageError
from tests.run_programs import explain, run_program
from training.adapt import AdaptOptions, adapt_model
from training.checkpoint import load_checkpoint
from training.own_figures import AdaptReport, describe
from training.own_pictures import read_own_pictures, split_pictures

COLORS = {"red": (200, 30, 30), "blue": (30, 40, 200)}
OPTIONS = AdaptOptions(epochs=30, rate=3e-3)
SHORT = AdaptOptions(epochs=1, rate=1e-3)


def square_row(root: Path, number: int) -> dict[str, Any]:
    color = list(COLORS)[number % 2]
    name = f"{number}.png"
    Image.new("RGB", (40, 30), COLORS[color]).save(root / name)
    asked = [{"question": "What color is it?", "answer": color}]
    return {"image": name, "captions": [f"A {color} square.", f"All {color}."], "questions": asked}


def write_rows(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("own")
    return write_rows(root / "my.jsonl", [square_row(root, number) for number in range(10)])


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("adapted")


@pytest.fixture(scope="module")
def report(data: Path, output: Path, tiny_bundle: ModelBundle) -> AdaptReport:
    return adapt_model(data, output, OPTIONS, source=tiny_bundle.directory)


def measured(model: Path, data: Path, rows: slice) -> float:
    """CIDEr-D of a model on some of the rows, by the runtime and from the file."""
    everything = [json.loads(line) for line in data.read_text().splitlines()]
    scorer = CiderD([[tokenize(caption) for caption in row["captions"]] for row in everything])
    runtime = MobileMultiModalLLM(model, backend="torch")
    numbers = range(len(everything))[rows]
    captions = [runtime.generate_caption(data.parent / everything[i]["image"]) for i in numbers]
    scores = [scorer.score(number, tokenize(text)) for number, text in zip(numbers, captions, strict=True)]
    return 100 * float(np.mean(scores))


def test_the_figures_are_those_of_the_models(
    report: AdaptReport, data: Path, output: Path, tiny_bundle: ModelBundle
) -> None:
    assert (report.learned, report.held_out) == (8, 2)
    held_out = slice(4, None, 5)
    before, after = (
        measured(tiny_bundle.directory, data, held_out),
        measured(output / "bundle", data, held_out),
    )
    assert report.before["cider_held_out"] == pytest.approx(before, abs=0.1)
    assert report.after["cider_held_out"] == pytest.approx(after, abs=0.1)
    assert after > before
    assert report.after["cider_learned"] > report.before["cider_learned"]
    assert report.after["answers_learned"] >= 50
    table = describe(report).splitlines()
    assert table[0].split() == ["before", "after"]
    assert table[1].split() == ["held", "out", "(2),", "CIDEr-D", f"{before:.1f}", f"{after:.1f}"]
    assert len(table) == 5


def test_what_is_not_learned_stays_that_of_the_source(
    report: AdaptReport, output: Path, tiny_bundle: ModelBundle
) -> None:
    adapted = load_bundle(output / "bundle")
    assert adapted.class_names == tiny_bundle.class_names
    assert adapted.tokenizer.to_json() == tiny_bundle.tokenizer.to_json()
    assert adapted.config.name == "tiny-adapted"
    assert adapted.config.vision == tiny_bundle.config.vision
    encoder, source = adapted.weights("vision_encoder"), tiny_bundle.weights("vision_encoder")
    for name in source:
        if name.startswith("backbone."):
            assert np.array_equal(encoder[name], source[name]), name
    assert f"`{tiny_bundle.sha256}`" in (adapted.directory / "README.md").read_text("utf-8")


def test_the_artifact_runs_and_no_checkpoint_is_left(report: AdaptReport, output: Path, data: Path) -> None:
    assert report.artifact == output / "onnx_int8"
    assert sorted(path.name for path in output.iterdir()) == ["bundle", "onnx_int8"]
    assert MobileMultiModalLLM(output / "onnx_int8").generate_caption(data.parent / "4.png")


def test_a_model_is_only_replaced_by_force(report: AdaptReport, data: Path, output: Path) -> None:
    with pytest.raises(UsageError, match=r"bundle exists .*--force"):
        adapt_model(data, output, SHORT)


def test_the_command_says_what_it_found(data: Path, tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    command: list[str | Path] = [sys.executable, "-m", "training", "adapt", "--data", data]
    command += ["--output", tmp_path / "out"]
    done = run_program([*command, "--from", tiny_bundle.directory, "--epochs", "1", "--rate", "1e-9"])
    assert done.returncode == 0, explain(done)
    assert "8 pictures to learn from, 1 times each" in done.stdout
    assert "held out (2), CIDEr-D" in done.stdout
    assert "nothing was written (--even-if-worse" in done.stdout.splitlines()[-1]
    done = run_program([*command, "--data", tmp_path / "gone.jsonl"])
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1].startswith(f"error: {tmp_path / 'gone.jsonl'}: No such file")


def test_a_model_that_is_no_better_is_written_only_on_demand(
    data: Path, tiny_bundle: ModelBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.adapt, "build_artifact", lambda bundle, *_, **__: load_bundle(bundle))
    still = AdaptOptions(epochs=1, rate=1e-9)
    report = adapt_model(data, tmp_path, still, source=tiny_bundle.directory)
    assert not report.has_improved
    assert report.artifact is None
    assert not (tmp_path / "bundle").exists()
    report = adapt_model(data, tmp_path, still, source=tiny_bundle.directory, even_if_worse=True)
    assert report.artifact == tmp_path / "bundle"
    assert report.after == report.before


class StoppedError(Exception):
    pass


def test_an_interrupted_run_goes_on_and_other_options_start_anew(
    data: Path, tiny_bundle: ModelBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(checkpoint: Path, *_: object, **__: object) -> None:
        raise StoppedError(checkpoint)

    def train(options: AdaptOptions) -> list[int]:
        with pytest.raises(StoppedError):
            adapt_model(data, tmp_path, options, source=tiny_bundle.directory, even_if_worse=True)
        return sorted(len(log.read_text().splitlines()) for log in tmp_path.glob("checkpoints-*/log.jsonl"))

    monkeypatch.setattr(training.adapt, "build_bundle", stop)
    segments = training.adapt.SEGMENTS
    assert train(SHORT) == [segments]
    assert train(SHORT) == [segments]
    assert train(AdaptOptions(epochs=1, rate=2e-3)) == [segments, segments]


def test_the_encoder_learns_only_when_asked(
    data: Path, tiny_bundle: ModelBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(checkpoint: Path, *_: object, **__: object) -> None:
        raise StoppedError(checkpoint)

    monkeypatch.setattr(training.adapt, "build_bundle", stop)
    options = AdaptOptions(epochs=1, encoder_rate=1e-3)
    with pytest.raises(StoppedError) as stopped:
        adapt_model(data, tmp_path, options, source=tiny_bundle.directory, even_if_worse=True)
    start, best = (load_checkpoint(stopped.value.args[0].with_name(n)) for n in ("start.pt", "adapt-best.pt"))
    assert start is not None
    assert best is not None
    moved = {
        name.removeprefix("encoder.backbone.").split(".")[1]
        for name, value in start["model"].items()
        if name.startswith("encoder.backbone.blocks.") and not value.equal(best["model"][name])
    }
    assert moved == {"10", "11", "12", "13", "14", "15"}
    for layer in ("classifier.weight", "words.weight"):
        name = f"encoder.backbone.{layer}"
        assert start["model"][name].equal(best["model"][name])


def test_every_fifth_picture_is_held_out(data: Path, tmp_path: Path) -> None:
    learned, held_out = split_pictures(data, None)
    assert [row.image for row in held_out.rows] == ["4.png", "9.png"]
    assert not {row.image for row in held_out.rows} & {row.image for row in learned.rows}
    assert learned.rows[0].captions == ("a red square", "all red")
    assert learned.rows[0].questions[0].answers == ("red",)
    few = write_rows(data.with_name("few.jsonl"), [square_row(data.parent, number) for number in range(4)])
    with pytest.raises(DataError, match=r"few\.jsonl: 4 rows, fewer than 5.*--val"):
        split_pictures(few, None)
    other = write_rows(tmp_path / "other.jsonl", [square_row(tmp_path, 0)])
    learned, held_out = split_pictures(few, other)
    assert (len(learned.rows), len(held_out.rows)) == (4, 1)
    with pytest.raises(DataError, match=r"my\.jsonl:1: '0\.png' is learned from: .*few\.jsonl:1"):
        split_pictures(few, data)


GOOD = {"image": "0.png", "captions": ["A red square."]}
BAD_ROWS = {
    "not JSON": "my.jsonl:2: not JSON",
    "[1]": "my.jsonl:2: not a JSON object",
    '{"captions": ["a"]}': "my.jsonl:2: 'image' is missing",
    '{"image": "1.png"}': "my.jsonl:2: 'captions' is missing",
    '{"image": "1.png", "captions": "a"}': "my.jsonl:2: 'captions' is a str, not a list",
    '{"image": "1.png", "captions": []}': "my.jsonl:2: 'captions' has none",
    '{"image": "1.png", "captions": [" "]}': "my.jsonl:2: 'captions' holds ' ', not a text",
    '{"image": "1.png", "captions": ["..."]}': "my.jsonl:2: 'captions' has none, or one without a word",
    '{"image": "9.png", "captions": ["a"]}': "my.jsonl:2: no picture '9.png'",
    '{"image": "../1.png", "captions": ["a"]}': "my.jsonl:2: no picture '../1.png'",
    '{"image": "0.png", "captions": ["a"]}': "my.jsonl:2: '0.png' stands in",
    '{"image": "1.png", "captions": ["a"], "question": "b"}': "my.jsonl:2: unknown field 'question'",
    '{"image": "1.png", "captions": ["a"], "questions": {}}': "my.jsonl:2: 'questions' is a dict",
    '{"image": "1.png", "captions": ["a"], "questions": ["b"]}': "my.jsonl:2: 'questions' holds 'b'",
    '{"image": "1.png", "captions": ["a"], "questions": [{"answer": "b"}]}': "my.jsonl:2: 'questions' holds",
    '{"image": "1.png", "captions": ["a"], "questions": [{"question": "b", "answer": ""}]}': (
        "my.jsonl:2: 'answer' is empty"
    ),
}


@pytest.mark.parametrize("line", BAD_ROWS)
def test_a_bad_row_is_named_by_its_line(line: str, tmp_path: Path) -> None:
    for number in range(2):
        square_row(tmp_path, number)
    path = tmp_path / "my.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n{line}\n")
    with pytest.raises(DataError) as caught:
        read_own_pictures(path)
    assert str(caught.value).startswith(str(tmp_path / BAD_ROWS[line]))
    assert "\n" not in str(caught.value)


def test_a_damaged_picture_is_named_before_training(tmp_path: Path, tiny_bundle: ModelBundle) -> None:
    data = write_rows(tmp_path / "my.jsonl", [square_row(tmp_path, number) for number in range(5)])
    (tmp_path / "1.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"my\.jsonl:2: .*1\.png"):
        adapt_model(data, tmp_path / "out", SHORT, source=tiny_bundle.directory)
    assert not (tmp_path / "out").exists()


def test_an_exported_model_cannot_be_trained(
    data: Path, tiny_artifacts: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"is an exported model .*--from"):
        adapt_model(data, tmp_path, SHORT, source=tiny_artifacts["float32"])


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"batch": 0}, {"rate": 0.0}, {"rate": 2.0}, {"encoder_rate": -1.0}]
)
def test_options_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=str(next(iter(wrong.values())))):
        AdaptOptions(**wrong)


def test_a_device_that_is_not_there_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(MmllmError, match="device 'tpu' is not there"):
        adapt_model(data, tmp_path, SHORT, device="tpu")


def test_few_pictures_are_seen_more_often() -> None:
    assert [AdaptOptions().passes(count) for count in (16, 400, 5000)] == [20, 10, 5]
    assert AdaptOptions(epochs=3).passes(16) == 3
