"""What the shipped artifact promises: caption quality, answers that need the picture, text read rightly."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.evaluate import evaluate
from benchmarks.evaluate_non_photos import evaluate_non_photos
from benchmarks.evaluate_pages import evaluate_rendered_pages
from mobile_multimodal import MobileMultiModalLLM

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("MMLLM_DATA", ROOT.parent / "shared" / "data"))

needs_data = pytest.mark.skipif(
    not (DATA / "captions_val.jsonl").is_file(),
    reason="not checked here: needs the validation photos (set MMLLM_DATA to their folder)",
)


@pytest.fixture(scope="module")
def model() -> MobileMultiModalLLM:
    return MobileMultiModalLLM()


@needs_data
def test_captions(model: MobileMultiModalLLM) -> None:
    report = evaluate(model, DATA / "captions_val.jsonl", "caption")
    assert report.figure("cider_d", "COCO").samples == 350
    assert report.figure("cider_d", "COCO").value >= 78
    assert report.figure("cider_d", "Flickr8k").value >= 67
    # A caption that is stuck on one sentence can be right for many pictures.
    assert report.figure("distinct_captions_percent").value >= 50


@needs_data
def test_answers_need_the_picture(model: MobileMultiModalLLM) -> None:
    report = evaluate(model, DATA / "vqa_val.jsonl", "vqa", train_data=DATA / "vqa_train.jsonl")
    for kind in ("object", "color"):
        group = f"COCO-QA: {kind}"
        answered = report.figure("exact_match_percent", group).value
        for baseline in ("blank image", "most common answer"):
            assert answered >= 8 + report.figure("exact_match_percent", group, baseline).value, (
                kind,
                baseline,
            )


def test_pictures_that_are_no_photos_are_told_as_such(model: MobileMultiModalLLM) -> None:
    report = evaluate_non_photos(model, 40, 2)
    assert report.figure("nothing_invented_percent", "non-photos").value >= 90


def test_rendered_pages_are_read(model: MobileMultiModalLLM) -> None:
    report = evaluate_rendered_pages(model, 10, 7, engines=("model",))
    figure = report.figure("cer_percent", "pages")
    assert figure.samples == 10
    assert figure.value <= 0.6
