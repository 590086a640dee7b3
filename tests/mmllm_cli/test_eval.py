"""``mmllm eval`` through a real process, on a data file of two pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont

from mmllm_cli.app import app
from mmllm_cli.errors_to_exit import run_app
from tests.mmllm_cli.conftest import CommandLine, only_one_line


@pytest.fixture
def captions(tmp_path: Path, odd_pictures: dict[str, Path]) -> Path:
    rows = [
        {"image": odd_pictures["plain"].name, "captions": ["A meadow under a blue sky.", "The sun shines."]},
        {"image": odd_pictures["grey"].name, "captions": ["A grey meadow.", "A field in black and white."]},
    ]
    data = tmp_path / "captions.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return data


def test_captions_are_scored(
    mmllm: CommandLine, captions: Path, odd_pictures: dict[str, Path], tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    arguments = ("eval", "--task", "caption", "--data", captions, "--images", odd_pictures["plain"].parent)
    done = mmllm(*arguments, "--report", report, "--json")
    assert done.code == 0, done.err
    [row] = done.rows
    assert row["task"] == "caption"
    assert row["images"] == 2
    assert row["model"] == "mmllm-base"
    assert any("cider" in figure["metric"].lower() for figure in row["figures"])
    written = json.loads(report.read_text())
    assert len(written["rows"]) == 2
    assert written["figures"] == row["figures"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["captions.jsonl", "report.json"]
    table = mmllm(*arguments).out.splitlines()
    assert table[0].startswith("caption on captions.jsonl: 2 pictures, ")
    assert table[1].split()[:4] == ["metric", "group", "system", "value"]


def test_answers_are_scored_beside_both_baselines(
    mmllm: CommandLine, odd_pictures: dict[str, Path], tmp_path: Path
) -> None:
    rows = [
        {"image": odd_pictures[name].name, "question": "what is it?", "answer": "a field", "type": "object"}
        for name in ("plain", "grey")
    ]
    data = tmp_path / "questions.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = mmllm("eval", "--task", "vqa", "--data", data, "--images", odd_pictures["plain"].parent, "--json")
    assert done.code == 0, done.err
    [row] = done.rows
    figures = {(figure["metric"], figure["group"], figure["system"]): figure for figure in row["figures"]}
    for system in ("model", "most common answer", "blank image"):
        assert figures["exact_match_percent", "all: object", system]["samples"] == 2
    assert figures["exact_match_percent", "all", "most common answer"]["value"] == 100.0
    assert ("gain_points", "all", "model") in figures


def test_read_text_is_scored_in_crops_and_on_pages(mmllm: CommandLine, tmp_path: Path) -> None:
    picture = Image.new("RGB", (400, 120), "white")
    font = ImageFont.load_default(size=48)
    ImageDraw.Draw(picture).text((40, 30), "Open daily", fill="black", font=font)
    picture.save(tmp_path / "sign.png")
    left, top, right, bottom = ImageDraw.Draw(picture).textbbox((40, 30), "Open daily", font=font)
    word = {"image": "sign.png", "text": "Open daily"}
    box = {"quad": [left, top, right, top, right, bottom, left, bottom], "text": "Open daily"}
    (tmp_path / "words.jsonl").write_text(json.dumps(word) + "\n")
    (tmp_path / "docs.jsonl").write_text(json.dumps({"image": "sign.png", "boxes": [box]}) + "\n")
    done = mmllm("eval", "--task", "ocr", "--data", tmp_path, "--json")
    assert done.code == 0, done.err
    [row] = done.rows
    values = {(figure["metric"], figure["group"]): figure["value"] for figure in row["figures"]}
    assert values["end_to_end_recall_percent", "pages"] == 100.0
    assert values["cer_ignoring_case_percent", "pages"] == 0.0
    systems = {figure["system"] for figure in row["figures"] if figure["group"].startswith("words")}
    assert systems == {"model", "recognizer alone"}


def test_drawn_pictures_are_captioned(mmllm: CommandLine) -> None:
    [row] = mmllm("eval", "--task", "non-photos", "--limit", "3", "--seed", "5", "--json").rows
    figures = {figure["metric"]: figure for figure in row["figures"]}
    assert row["data"] == "3 drawn pictures, seed 5"
    assert figures.keys() == {"nothing_invented_percent", "true_captions_percent"}
    assert all(figure["samples"] == 3 for figure in figures.values())


def test_rendered_pages_are_read(mmllm: CommandLine) -> None:
    arguments = ("eval", "--task", "pages", "--limit", "1", "--seed", "3", "--engines", "model")
    done = mmllm(*arguments, "--json")
    assert done.code == 0, done.err
    [row] = done.rows
    assert row["data"] == "1 rendered pages, seed 3"
    [cer] = [figure for figure in row["figures"] if figure["metric"] == "cer_percent"]
    assert cer["samples"] == 1
    assert cer["value"] < 20.0


def test_bad_data_is_one_line(mmllm: CommandLine, tmp_path: Path) -> None:
    data = tmp_path / "captions.jsonl"
    done = mmllm("eval", "--data", data, "--task", "caption")
    assert done.code == 3
    line = only_one_line(done.error_lines)
    assert str(data) in line
    assert line.endswith("(name a .jsonl file that can be read)")
    data.write_text('{"image": "a.jpg"}\n')
    done = mmllm("eval", "--data", data, "--task", "caption")
    assert done.code == 3
    assert "captions.jsonl:1" in only_one_line(done.error_lines)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--task", "sing", "--data", "a.jsonl"], "one of caption, ocr, vqa, pages, non-photos"),
        (["--task", "caption"], "needs a data file"),
        (["--task", "pages", "--data", "a.jsonl"], "renders its own data"),
        (["--task", "pages", "--engines", "model, abbyy"], "unknown engine abbyy (any of model, tesseract)"),
        (["--task", "ocr", "--data", "a.jsonl", "--seed", "1"], "leave --seed to --task pages or non-photos"),
        (["--task", "ocr", "--data", "a.jsonl", "--engines", "model"], "renders no pages"),
        (["--task", "non-photos", "--engines", "model"], "leave --engines to --task pages"),
        (["--task", "non-photos", "--data", "a.jsonl"], "leave --data out, or use --task caption"),
        (["--task", "caption", "--data", "a.jsonl", "--report", "no/where/r.json"], "does not exist"),
    ],
)
def test_options_that_do_not_fit(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert run_app(app, ["eval", *arguments]) == 2
    assert words in only_one_line(capsys.readouterr().err.splitlines())


def test_too_few_pictures_are_refused(
    mmllm: CommandLine, captions: Path, odd_pictures: dict[str, Path]
) -> None:
    done = mmllm(
        "eval",
        "--data",
        captions,
        "--task",
        "caption",
        "--images",
        odd_pictures["plain"].parent,
        "--limit",
        "1",
    )
    assert done.code == 3
    assert "two pictures" in only_one_line(done.error_lines)
