"""Words and pages read from tar files and folders, with a recognizer measured by itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.evaluate import evaluate
from mobile_multimodal.backends import Array
from mobile_multimodal.config import ModelConfig, OcrConfig
from mobile_multimodal.results import TaskRequest, TaskResult
from tests.benchmarks.small_data import ColorModel, paint_text, png, quad, write_jsonl, write_tar

PAGE_BOXES = [
    {"quad": quad(10, 10, 110, 30), "text": "TAX INVOICE", "legible": True},
    {"quad": quad(200, 12, 260, 32), "text": "9.00", "legible": True},
    {"quad": quad(10, 50, 60, 70), "text": "Total", "legible": True},
    {"quad": quad(300, 300, 360, 320), "text": "###", "legible": False},
]


def ocr_files() -> dict[str, bytes]:
    words = [
        {"image": "words/1.png", "text": "EXIT", "source": "icdar15"},
        {"image": "words/2.png", "text": "stop", "source": "iiit5k"},
    ]
    pages = [{"image": "docs/1.png", "source": "sroie", "w": 400, "h": 400, "boxes": PAGE_BOXES}]
    return {
        "set/words.jsonl": "\n".join(map(json.dumps, words)).encode(),
        "set/docs.jsonl": "\n".join(map(json.dumps, pages)).encode(),
        "set/words/1.png": paint_text([(quad(0, 0, 9, 9), "exit")], (64, 16)),
        "set/words/2.png": paint_text([(quad(0, 0, 9, 9), "stap")], (64, 16)),
        "set/docs/1.png": paint_text(
            [
                (quad(10, 10, 110, 30), "Tax invoice"),
                (quad(200, 12, 260, 32), "9.80"),
                (quad(110, 50, 160, 70), "Total"),
                (quad(301, 301, 359, 319), "blurred"),
            ],
            (400, 400),
        ),
    }


@pytest.mark.parametrize("form", ["tar", "folder", "jsonl"])
def test_words_and_pages_are_read_from_a_tar_file_or_a_folder(tmp_path: Path, form: str) -> None:
    files = ocr_files()
    if form == "tar":
        path = tmp_path / "ocr.tar"
        write_tar(path, files)
    else:
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(content)
        path = tmp_path / "set" if form == "folder" else tmp_path / "set/docs.jsonl"
    report = evaluate(ColorModel(), path, "ocr")

    # The one wrong digit is all that differs in "tax invoice 9.00 total"; the illegible box is not judged.
    assert report.figure("cer_ignoring_case_percent", "pages").value == pytest.approx(100 * 1 / 22)
    assert report.figure("word_recall_percent", "pages: sroie").value == pytest.approx(75.0)
    # "Total" was read, but in another place.
    assert report.figure("end_to_end_recall_percent", "pages").value == pytest.approx(100 / 3)
    if form == "jsonl":
        assert report.images == 1
        return
    assert report.images == 3
    assert report.figure("cer_percent", "words").value == pytest.approx(100 * 5 / 8)
    assert report.figure("cer_ignoring_case_percent", "words").value == pytest.approx(100 * 1 / 8)
    assert report.figure("word_accuracy_percent", "words").value == 0.0
    assert report.figure("word_accuracy_ignoring_case_percent", "words").value == 50.0
    assert report.figure("word_accuracy_ignoring_case_percent", "words: icdar15").value == 100.0


class LineBackend:
    """A recognizer that sees "ab" in a bright line and "b" in a dark one."""

    name = "lines"
    components = ("text_recognizer",)

    def run(self, component: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        assert component == "text_recognizer"
        pixels = inputs["pixel_values"]
        probability = np.zeros((len(pixels), 5, 3), np.float32)
        for index, line in enumerate(np.asarray(pixels, np.float32)):
            classes = [0, 1, 0, 2, 0] if line[:, :20].mean() > 127 else [0, 0, 2, 2, 0]
            probability[index, range(5), classes] = 1.0
        return {"probability": probability}


class ReadingModel(ColorModel):
    """Detects no text at all, but can recognize a line."""

    backend = LineBackend()
    config = ModelConfig(ocr=OcrConfig(characters="ab"))

    def _answer(self, pixels: np.ndarray[Any, np.dtype[np.uint8]], request: TaskRequest) -> TaskResult:
        return TaskResult("ocr", "", None, regions=())


def test_the_recognizer_is_also_measured_without_the_detector(tmp_path: Path) -> None:
    for name, level in ("1.png", 250), ("2.png", 5), ("3.png", 5):
        (tmp_path / name).write_bytes(png(np.full((48, 160, 3), level, np.uint8)))
    texts = {"1.png": "ab", "2.png": "B", "3.png": "xyz"}
    path = write_jsonl(
        tmp_path / "words.jsonl", [{"image": name, "text": text} for name, text in texts.items()]
    )
    seen: list[tuple[int, int]] = []
    report = evaluate(ReadingModel(), path, "ocr", progress=lambda done, total: seen.append((done, total)))
    assert report.figure("cer_percent", "words").value == 100.0
    alone = "recognizer alone"
    assert report.figure("cer_percent", "words", alone).value == pytest.approx(100 * 4 / 6)
    assert report.figure("word_accuracy_percent", "words", alone).value == pytest.approx(100 / 3)
    assert report.figure("word_accuracy_ignoring_case_percent", "words", alone).value == pytest.approx(
        200 / 3
    )
    assert seen == [(3, 6), (4, 6), (5, 6), (6, 6)]
    assert report.rows[0]["recognizer alone text"] == "ab"
