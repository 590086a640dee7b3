"""What may be asked of an evaluation, and how bad data is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.evaluate import evaluate
from mobile_multimodal.errors import DataError, UsageError
from tests.benchmarks.small_data import (
    CAPTION_ROWS,
    QUESTION_ROWS,
    ColorModel,
    plain,
    write_jsonl,
    write_photos,
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_photos(tmp_path)
    return tmp_path


def test_limit_takes_rows_from_the_whole_file(data: Path) -> None:
    path = write_jsonl(data / "val.jsonl", CAPTION_ROWS)
    report = evaluate(ColorModel(), path, "caption", limit=2)
    assert [row["image"] for row in report.rows] == ["coco/1.png", "coco/3.png"]
    report = evaluate(ColorModel(), path, "caption", limit=3)
    assert {row["source"] for row in report.rows} == {"COCO", "Flickr8k"}
    assert any(note.startswith("Flickr8k: one picture only") for note in report.notes)


def test_pictures_may_lie_in_another_folder(data: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = write_jsonl(tmp_path_factory.mktemp("rows") / "val.jsonl", CAPTION_ROWS)
    with pytest.raises(DataError, match=r"val\.jsonl:1: coco/1\.png is neither"):
        evaluate(ColorModel(), elsewhere, "caption")
    assert evaluate(ColorModel(), elsewhere, "caption", images=data).images == 5


GOOD_CAPTION = json.dumps(CAPTION_ROWS[0])
GOOD_QUESTION = json.dumps(QUESTION_ROWS[3])


@pytest.mark.parametrize(
    ("task", "lines", "message"),
    [
        ("caption", [], "no rows"),
        ("caption", [GOOD_CAPTION, "{"], ":2: not JSON"),
        ("caption", [GOOD_CAPTION, "", "[1]"], ":3: not a JSON object"),
        ("caption", ['{"image": "coco/1.png"}'], ":1: 'captions' is missing"),
        ("caption", ['{"image": "coco/1.png", "captions": "A dog."}'], "'captions' is a str, not a list"),
        ("caption", ['{"image": "coco/1.png", "captions": []}'], ":1: 'captions' has none"),
        ("caption", ['{"image": "coco/1.png", "captions": ["!"]}'], "without a word"),
        ("caption", ['{"image": "coco/1.png", "captions": [3]}'], "holds 3, not a text"),
        ("caption", ['{"image": "../1.png", "captions": ["A dog."]}'], ":1: ../1.png is neither"),
        ("caption", [GOOD_CAPTION], "at least two pictures"),
        ("vqa", [GOOD_QUESTION.replace('"red"', '" "')], ":1: 'answer' is empty"),
        ("vqa", [GOOD_QUESTION.replace("What is", "What " * 99)], ":1: the question has"),
        ("ocr", ['{"image": "coco/1.png", "text": ""}'], ":1: 'text' is empty"),
        (
            "ocr",
            ['{"image": "coco/1.png", "boxes": [{"quad": [1, 2], "text": "a"}]}'],
            "not 8 finite numbers",
        ),
        ("ocr", ['{"image": "coco/1.png", "boxes": []}'], ":1: no legible text"),
    ],
)
def test_bad_rows_are_named_by_file_and_line(data: Path, task: str, lines: list[str], message: str) -> None:
    path = data / "rows.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        evaluate(ColorModel(), path, task)
    assert message in str(caught.value)
    assert "rows.jsonl" in str(caught.value) or "at least two" in message


def test_files_that_are_missing_damaged_or_of_another_kind(data: Path, tmp_path: Path) -> None:
    model = ColorModel()
    with pytest.raises(DataError, match=r"none\.jsonl: No such file"):
        evaluate(model, data / "none.jsonl", "caption")
    (data / "latin.jsonl").write_bytes(b'{"image": "caf\xe9"}')
    with pytest.raises(DataError, match=r"latin\.jsonl: not UTF-8"):
        evaluate(model, data / "latin.jsonl", "caption")
    (data / "broken.png").write_bytes(plain("red")[:40])
    rows = [{"image": "broken.png", "captions": ["A dog."]}, {"image": "coco/1.png", "captions": ["A dog."]}]
    with pytest.raises(DataError, match=r"broken\.jsonl:1: "):
        evaluate(model, write_jsonl(data / "broken.jsonl", rows), "caption")
    (data / "c.tar").write_bytes(b"not a tar file" * 100)
    with pytest.raises(DataError, match=r"c\.tar: not a plain tar file"):
        evaluate(model, write_jsonl(data / "val.jsonl", CAPTION_ROWS), "caption")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds neither words\.jsonl nor docs\.jsonl"):
        evaluate(model, tmp_path / "empty", "ocr")
    with pytest.raises(DataError, match="no such folder"):
        evaluate(model, tmp_path / "nowhere", "ocr")


def test_arguments_that_can_never_work(data: Path) -> None:
    path = write_jsonl(data / "val.jsonl", CAPTION_ROWS)
    with pytest.raises(UsageError, match="unknown task 'captions'"):
        evaluate(ColorModel(), path, "captions")
    with pytest.raises(UsageError, match="takes no training data"):
        evaluate(ColorModel(), path, "caption", train_data=path)
    with pytest.raises(UsageError, match="limit 0 is below 1"):
        evaluate(ColorModel(), path, "caption", limit=0)
