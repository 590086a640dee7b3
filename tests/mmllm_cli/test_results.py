"""What the commands print: JSON rows, lines for people, pages and drawings."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from tests.mmllm_cli.conftest import CommandLine, only_one_line

ROW_KEYS = {"image", "task", "text", "confidence", "model", "timings_ms", "notes"}


@pytest.fixture(scope="module")
def sign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two lines of large black letters on white."""
    picture = Image.new("RGB", (640, 240), "white")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=64)
    draw.text((40, 30), "Open daily", fill="black", font=font)
    draw.text((40, 130), "9 to 17", fill="black", font=font)
    path = tmp_path_factory.mktemp("sign") / "sign.png"
    picture.save(path)
    return path


def check_row(row: dict[str, Any], task: str) -> None:
    assert row.keys() >= ROW_KEYS
    assert row["task"] == task
    assert row["model"] == "mmllm-base"
    assert row["confidence"] is None or 0.0 <= row["confidence"] <= 1.0
    assert row["timings_ms"]["read"] > 0
    assert all(math.isfinite(value) and value >= 0 for value in row["timings_ms"].values())


def test_one_caption(mmllm: CommandLine, photo: Path) -> None:
    plain = mmllm("caption", photo)
    assert plain.code == 0
    assert plain.err == ""
    found = mmllm("caption", photo, "--json")
    [row] = found.rows
    check_row(row, "caption")
    assert row["text"] == only_one_line(plain.out.splitlines())
    assert row["image"] == str(photo)
    assert found.err == ""


def test_several_captions_are_named(mmllm: CommandLine, photo: Path, sign: Path) -> None:
    lines = mmllm("caption", photo, sign).out.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [str(photo), str(sign)]


def test_beam_and_max_tokens_reach_the_model(mmllm: CommandLine, photo: Path) -> None:
    short = mmllm("caption", photo, "--max-tokens", "1", "--json").rows[0]["text"]
    long = mmllm("caption", photo, "--max-tokens", "24", "--beam", "3", "--json", "--threads", "1").rows[0][
        "text"
    ]
    assert len(short) < len(long)


def test_an_answer(mmllm: CommandLine, photo: Path, sign: Path) -> None:
    done = mmllm("vqa", photo, sign, "what colour is it?", "--json", "--min-confidence", "0")
    assert done.code == 0
    for row in done.rows:
        check_row(row, "vqa")
        assert row["question"] == "what colour is it?"
        assert row["text"]


def test_abstaining(mmllm: CommandLine, photo: Path) -> None:
    done = mmllm("caption", photo, "--min-confidence", "1.0")
    assert done.code == 0
    assert only_one_line(done.out.splitlines()).startswith("not sure (confidence 0.")
    [row] = mmllm("caption", photo, "--min-confidence", "1.0", "--json").rows
    assert row["text"] is None
    assert 0.0 < row["confidence"] < 1.0


def test_several_tasks_in_one_document(mmllm: CommandLine, sign: Path) -> None:
    arguments = ("run", sign, "--task", "caption,ocr,vqa", "-q", "what is this?", "-q", "where is it?")
    arguments = (*arguments, "--min-confidence", "0")  # whatever the model itself would not say
    [row] = mmllm(*arguments, "--json").rows
    assert [result["task"] for result in row["results"]] == ["caption", "ocr", "vqa", "vqa"]
    assert [result.get("question") for result in row["results"][2:]] == ["what is this?", "where is it?"]
    assert row.keys() >= {"image", "results", "model", "timings_ms", "notes"}
    lines = mmllm(*arguments).out.splitlines()
    assert lines[0] == f"caption  {row['results'][0]['text']}"
    assert lines[-2] == f"vqa      what is this? {row['results'][2]['text']}"
    assert lines[-1] == f"vqa      where is it? {row['results'][3]['text']}"


def test_reading_text_in_every_format(mmllm: CommandLine, sign: Path, tmp_path: Path) -> None:
    drawn = tmp_path / "drawn.png"
    [row] = mmllm("ocr", sign, "--json", "--annotate", drawn).rows
    check_row(row, "ocr")
    assert row["text"].split() == " ".join(region["text"] for region in row["regions"]).split()
    lines = mmllm("ocr", sign).out.splitlines()
    assert lines == row["text"].splitlines() == ["Open daily", "9 to 17"]
    for region in row["regions"]:
        assert len(region["box"]) == 4
        assert all(0 <= x <= 640 and 0 <= y <= 240 for x, y in region["box"])
    [same] = mmllm("ocr", sign, "--format", "json").rows
    assert same["regions"] == row["regions"]
    header, *rows = mmllm("ocr", sign, "--format", "tsv").out.splitlines()
    assert header.split("\t")[-1] == "text"
    assert [line.split("\t")[-1] for line in rows] == [region["text"] for region in row["regions"]]
    page = ET.fromstring(mmllm("ocr", sign, "--format", "hocr").out)
    words = [node.text for node in page.iter() if node.get("class") == "ocrx_word"]
    assert words == [region["text"] for region in row["regions"]]
    with Image.open(drawn) as picture:
        assert picture.size == (640, 240)
        assert list(tmp_path.iterdir()) == [drawn]
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert ((pixels[..., 0] > 150) & (pixels[..., 1] < 120)).any()


def test_no_text_is_said(mmllm: CommandLine, tmp_path: Path) -> None:
    blank = tmp_path / "blank.png"
    Image.new("RGB", (200, 100), "white").save(blank)
    done = mmllm("ocr", blank)
    assert done.code == 0
    assert done.out.strip() == ""
    assert "no text found" in only_one_line(done.error_lines)
    table = mmllm("ocr", blank, "--format", "tsv")
    assert len(table.out.splitlines()) == 1
    assert "no text found" in only_one_line(table.error_lines)
    [row] = mmllm("ocr", blank, "--json").rows
    assert (row["text"], row["confidence"], row["regions"]) == ("", None, [])


def test_info(mmllm: CommandLine) -> None:
    [row] = mmllm("info", "--json").rows
    assert row["name"] == "mmllm-base"
    assert len(row["sha256"]) == 64
    lines = mmllm("info").out
    assert "mmllm-base" in lines
    assert row["sha256"] in lines
    assert "vision_encoder" in lines


def test_doctor(mmllm: CommandLine) -> None:
    [row] = mmllm("doctor", "--json").rows
    checks = {check["name"]: check for check in row["checks"]}
    assert row["status"] == "ok"
    assert {"python", "platform", "numpy", "onnxruntime", "model", "caption"} <= checks.keys()
    assert all(check["status"] in ("ok", "missing") for check in checks.values())
    assert all(check["remedy"] for check in checks.values() if check["status"] == "missing")
    assert "hash verified" in checks["model"]["detail"]
    people = mmllm("doctor")
    assert people.code == 0
    assert people.out.splitlines()[-1] == "everything that caption, ocr and vqa need works"
