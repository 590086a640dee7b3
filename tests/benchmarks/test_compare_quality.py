"""Two models on the same small data: what is kept, and what must be there before anything is measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.compare_quality import (
    CAPTION_FILE,
    PAGE_SEED,
    PAGES,
    QUESTION_FILE,
    ComparedMetric,
    QualityComparison,
    QualityData,
    compare_quality,
    load_quality_data,
)
from benchmarks.evaluate import evaluate
from benchmarks.evaluation_report import EvaluatedModel
from benchmarks.pages import render_pages
from mobile_multimodal.errors import DataError, UsageError
from mobile_multimodal.image import LoadedImage
from mobile_multimodal.results import GenerationConfig, TaskRequest, TaskResult
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
    write_jsonl(tmp_path / CAPTION_FILE, CAPTION_ROWS)
    write_jsonl(tmp_path / QUESTION_FILE, QUESTION_ROWS)
    return tmp_path


class ReadingModel(ColorModel):
    """Also reads drawn pages, by their pixels, and drops the last characters of each."""

    def __init__(self, pages: Sequence[tuple[NDArray[np.uint8], str]] = (), *, dropped: int = 0) -> None:
        super().__init__()
        self.pages = pages
        self.dropped = dropped

    def run(
        self,
        images: Sequence[LoadedImage],
        requests: Sequence[TaskRequest],
        generation: GenerationConfig | None = None,
    ) -> list[list[TaskResult]]:
        if requests[0].task != "ocr":
            return super().run(images, requests, generation)
        [text] = [text for pixels, text in self.pages if pixels is images[0].pixels]
        return [[TaskResult("ocr", text[: len(text) - self.dropped], 0.9, regions=())]]


class BlueBlindModel(ReadingModel):
    """Sees grey where the other model sees blue."""

    def run(
        self,
        images: Sequence[LoadedImage],
        requests: Sequence[TaskRequest],
        generation: GenerationConfig | None = None,
    ) -> list[list[TaskResult]]:
        seen = [
            image
            if requests[0].task == "ocr" or image.pixels[0, 0, 2] < 200
            else LoadedImage(np.full((8, 8, 3), 127, np.uint8), image.source)
            for image in images
        ]
        return super().run(seen, requests, generation)


def by_name(comparison: QualityComparison) -> dict[str, ComparedMetric]:
    return {row.metric: row for row in comparison.metrics}


def test_both_models_are_measured_as_eval_measures_them(data: Path) -> None:
    seen: list[tuple[int, int]] = []
    loaded = load_quality_data(data, with_pages=False)
    comparison = compare_quality(
        ColorModel(), BlueBlindModel(), loaded, progress=lambda done, total: seen.append((done, total))
    )
    rows = by_name(comparison)
    assert (comparison.images, comparison.questions, comparison.pages) == (5, 6, 0)
    assert rows.keys() == {"cider_d", "vqa_accuracy_percent", "exact_match_percent"}
    models: list[tuple[EvaluatedModel, str]] = [(ColorModel(), "reference"), (BlueBlindModel(), "candidate")]
    for model, side in models:
        captions = evaluate(model, data / CAPTION_FILE, "caption")
        answers = evaluate(model, data / QUESTION_FILE, "vqa")
        assert getattr(rows["cider_d"], side) == captions.figure("cider_d").value
        assert getattr(rows["exact_match_percent"], side) == pytest.approx(
            answers.figure("exact_match_percent").value
        )
    # One photo of five is blue: its caption differs, and so does the answer about it.
    assert comparison.caption_agreement_percent == 80.0
    assert rows["cider_d"].candidate < rows["cider_d"].reference
    assert rows["cider_d"].kept_percent == pytest.approx(
        100 * rows["cider_d"].candidate / rows["cider_d"].reference
    )
    # Full credit but for the count of cars, two of ten people's; the blind one also misses the sea.
    assert rows["vqa_accuracy_percent"].reference == pytest.approx(100 * (5 + 2 / 3) / 6)
    assert rows["vqa_accuracy_percent"].candidate == pytest.approx(100 * (4 + 2 / 3) / 6)
    assert rows["vqa_accuracy_percent"].kept_percent == pytest.approx(100 * 14 / 17)
    assert [row.samples for row in rows.values()] == [5, 6, 6]
    assert seen[-1] == (22, 22)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_a_model_keeps_all_of_itself(data: Path) -> None:
    comparison = compare_quality(ColorModel(), ColorModel(), load_quality_data(data, with_pages=False))
    assert comparison.caption_agreement_percent == 100.0
    assert {row.kept_percent for row in comparison.metrics} == {100.0}
    assert {row.difference for row in comparison.metrics} == {0.0}


def test_errors_on_pages_are_compared_in_points(data: Path) -> None:
    loaded = load_quality_data(data, limit=2)
    texts = [(page.pixels, page.text) for page in loaded.pages]
    comparison = compare_quality(ReadingModel(texts), ReadingModel(texts, dropped=30), loaded)
    row = by_name(comparison)["cer_percent"]
    characters = sum(len(" ".join(text.split())) for _, text in texts)
    assert row.reference == 0.0
    assert 100 * 50 / characters < row.difference <= 100 * 60 / characters
    assert row.kept_percent is None
    assert row.is_error_rate
    assert row.samples == comparison.pages == 2


def test_pages_are_the_first_of_the_fixed_seed_and_few(data: Path) -> None:
    drawn = render_pages(3, PAGE_SEED)
    pages = load_quality_data(data, limit=3).pages
    assert [page.text for page in pages] == [page.text for page in drawn]
    assert all(np.array_equal(page.pixels, other.pixels) for page, other in zip(pages, drawn, strict=True))
    assert len(load_quality_data(data, limit=PAGES + 1).pages) == PAGES


def test_a_limit_takes_rows_from_the_whole_file(data: Path) -> None:
    loaded = load_quality_data(data, limit=2, with_pages=False)
    assert [row.image for row in loaded.captions] == ["coco/1.png", "coco/3.png"]
    assert len(loaded.questions) == 2
    assert loaded.pages == ()


def test_nothing_kept_of_nothing_and_values_that_are_no_numbers() -> None:
    assert ComparedMetric("cider_d", 0.0, 3.0, 5).kept_percent is None
    for values in ((math.nan, 1.0), (1.0, math.inf)):
        with pytest.raises(ValueError, match="cider_d"):
            ComparedMetric("cider_d", *values, 5)
    with pytest.raises(ValueError, match="cider_d"):
        ComparedMetric("cider_d", 1.0, 1.0, 0)


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        ((CAPTION_FILE,), "no captions_val.jsonl ("),
        ((QUESTION_FILE,), "no vqa_val.jsonl ("),
        ((CAPTION_FILE, QUESTION_FILE), "no captions_val.jsonl and no vqa_"),
    ],
)
def test_a_missing_file_is_named(data: Path, gone: Sequence[str], words: str) -> None:
    for name in gone:
        (data / name).unlink()
    with pytest.raises(DataError) as caught:
        load_quality_data(data)
    assert str(caught.value).startswith(f"{data}: there is no ")
    assert words in str(caught.value)


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: there is no captions_val"):
        load_quality_data(tmp_path / "nowhere")


def test_bad_data_is_found_when_it_is_read(data: Path) -> None:
    with pytest.raises(UsageError, match="limit 0 is below 1"):
        load_quality_data(data, limit=0)
    with pytest.raises(DataError, match="at least two photos"):
        load_quality_data(data, limit=1)
    (data / "flickr8k/2.png").unlink()
    with pytest.raises(DataError, match=r"captions_val\.jsonl:5: flickr8k/2\.png is neither"):
        load_quality_data(data)
    (data / "flickr8k/2.png").write_bytes(plain("yellow"))
    write_jsonl(data / QUESTION_FILE, [{"image": "coco/1.png", "question": "What?"}])
    with pytest.raises(DataError, match=r"vqa_val\.jsonl:1: 'answer' is missing"):
        load_quality_data(data)


def test_a_photo_that_cannot_be_decoded(data: Path) -> None:
    (data / "flickr8k/2.png").write_bytes(b"no picture")
    loaded: QualityData = load_quality_data(data, with_pages=False)
    with pytest.raises(DataError, match=r"captions_val\.jsonl:5: "):
        compare_quality(ColorModel(), ColorModel(), loaded)
