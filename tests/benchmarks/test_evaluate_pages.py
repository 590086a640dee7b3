"""Pages read by a model and, where it is installed, by the real Tesseract."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from benchmarks.evaluate_pages import evaluate_pages, evaluate_rendered_pages, read_with_tesseract
from mobile_multimodal.errors import InconclusiveError, UsageError
from mobile_multimodal.image import LoadedImage
from mobile_multimodal.results import GenerationConfig, TaskRequest, TaskResult

needs_tesseract = pytest.mark.skipif(
    shutil.which("tesseract") is None, reason="tesseract is not installed: pages were not read with it"
)


@dataclass(frozen=True)
class Page:
    pixels: NDArray[np.uint8]
    text: str


def page(*lines: str) -> Page:
    picture = Image.new("RGB", (900, 80 + 60 * len(lines)), "white")
    pen = ImageDraw.Draw(picture)
    for number, line in enumerate(lines):
        pen.text((40, 40 + 60 * number), line, fill="black", font=ImageFont.load_default(size=32))
    return Page(np.asarray(picture), "\n".join(lines))


PAGES = [
    page("The invoice is due in May.", "Please pay 42 euros"),
    page("A quiet morning by the river", "with nothing to report."),
]


class HeightModel:
    """Knows the pages by their pixels and misreads one letter of the first."""

    name = "height-model"
    recipe = "float32"
    sha256 = "0" * 64
    calls = 0

    def run(
        self,
        images: Sequence[LoadedImage],
        requests: Sequence[TaskRequest],
        generation: GenerationConfig | None = None,
    ) -> list[list[TaskResult]]:
        self.calls += 1
        assert [request.task for request in requests] == ["ocr"]
        known = next(page for page in PAGES if page.pixels is images[0].pixels)
        return [[TaskResult("ocr", known.text.replace("invoice", "lnvoice"), 0.9, regions=())]]


def test_the_model_is_scored_over_all_pages_after_a_warm_up() -> None:
    model = HeightModel()
    seen: list[tuple[int, int]] = []
    report = evaluate_pages(
        model, PAGES, ["model"], name="two", progress=lambda done, total: seen.append((done, total))
    )
    characters = sum(len(page.text) for page in PAGES)
    words = sum(len(page.text.split()) for page in PAGES)
    assert report.figure("cer_percent", "pages").value == pytest.approx(100 / characters)
    assert report.figure("wer_percent", "pages").value == pytest.approx(100 / words)
    assert report.figure("seconds_per_page", "pages").value > 0
    assert model.calls == 3
    assert seen == [(1, 2), (2, 2)]
    assert report.data == "two"


@needs_tesseract
def test_tesseract_reads_the_same_pages() -> None:
    report = evaluate_pages(HeightModel(), PAGES, name="two")
    assert report.figure("cer_percent", "pages", "tesseract").value < 5.0
    assert report.figure("seconds_per_page", "pages", "tesseract").value > 0.01
    assert report.figure("cer_percent", "pages").samples == 2
    assert report.rows[1]["tesseract"].startswith("A quiet morning")
    assert any(note.startswith("tesseract ") for note in report.notes)


def test_a_missing_tesseract_is_inconclusive_and_not_a_pass(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InconclusiveError, match="apt-get install tesseract-ocr"):
        evaluate_pages(HeightModel(), PAGES, name="two")


@pytest.mark.skipif(os.name == "nt", reason="the stand-in program is a shell script")
def test_a_failing_tesseract_is_inconclusive(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "tesseract"
    program.write_text("#!/bin/sh\necho 'Error opening data file eng.traineddata' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InconclusiveError, match=r"failed with 1: Error opening data file eng\.traineddata"):
        read_with_tesseract(PAGES[0].pixels)


def test_engines_and_counts_that_can_never_work() -> None:
    with pytest.raises(UsageError, match=r"unknown engine abbyy \(any of model, tesseract\)"):
        evaluate_pages(HeightModel(), PAGES, ["model", "abbyy"], name="two")
    with pytest.raises(UsageError, match="no engine is given"):
        evaluate_pages(HeightModel(), PAGES, [], name="two")
    with pytest.raises(UsageError, match="unknown engine abbyy"):
        # So many pages could not be drawn while this test runs.
        evaluate_rendered_pages(HeightModel(), 10**9, 1, ["abbyy"])
    with pytest.raises(UsageError, match="no pages"):
        evaluate_pages(HeightModel(), [], ["model"], name="none")
    with pytest.raises(UsageError, match="0 pages"):
        evaluate_rendered_pages(HeightModel(), 0, 1)
