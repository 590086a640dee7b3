"""Captions that hand over to the text reader."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from benchmarks.pages import render_page
from mobile_multimodal.bundle import ModelBundle
from mobile_multimodal.image import LoadedImage
from mobile_multimodal.model import MobileMultiModalLLM
from mobile_multimodal.ocr import read_text
from mobile_multimodal.results import TaskResult
from mobile_multimodal.tasks import MAX_QUOTED_CHARACTERS, finish_caption, quote_words

HANDED_OVER = TaskResult("caption", "A receipt that begins with.", 0.8, timings_ms={"generate": 1.0})


@pytest.fixture(scope="module")
def model() -> MobileMultiModalLLM:
    return MobileMultiModalLLM()


def test_a_page_is_quoted_by_its_first_words(model: MobileMultiModalLLM) -> None:
    page = render_page("receipt", 1)
    done = finish_caption(model._runtime, LoadedImage(page.pixels, "<page>"), HANDED_OVER)
    start, _, quoted = done.text.partition(' "')
    assert start == "A receipt that begins with"
    assert quoted.endswith('".')
    words = quoted.removesuffix('".').split()
    assert 1 <= len(words) <= 8
    shown = page.text.split()
    assert sum(word in shown for word in words) >= len(words) - 1
    assert {"generate", "detect", "recognize"} <= done.timings_ms.keys()
    assert done.confidence == 0.8


def test_where_nothing_can_be_read_the_caption_ends_before(model: MobileMultiModalLLM) -> None:
    blank = LoadedImage(np.full((200, 200, 3), 255, np.uint8), "<blank>")
    assert finish_caption(model._runtime, blank, HANDED_OVER).text == "A receipt."


def test_a_model_without_a_reader_drops_the_ending(tiny_bundle: ModelBundle) -> None:
    tiny = MobileMultiModalLLM(tiny_bundle.directory, backend="torch")
    page = LoadedImage(render_page("receipt", 1).pixels, "<page>")
    assert finish_caption(tiny._runtime, page, HANDED_OVER).text == "A receipt."


def test_other_captions_stay_and_nothing_is_read(model: MobileMultiModalLLM) -> None:
    image = LoadedImage(np.zeros((8, 8, 3), np.uint8), "<test>")
    other = dataclasses.replace(HANDED_OVER, text="A dog that begins with a ball.")
    assert finish_caption(model._runtime, image, other) is other


def test_only_the_first_lines_are_read(model: MobileMultiModalLLM) -> None:
    page = render_page("letter", 2)
    assert model.config.ocr is not None
    whole, _ = read_text(model.backend, page.pixels, model.config.ocr)
    some, _ = read_text(model.backend, page.pixels, model.config.ocr, max_lines=3)
    assert [region.text for region in some] == [region.text for region in whole[:3]]


def test_quotes_are_short_and_hold_no_quotation_marks() -> None:
    assert quote_words(['He said "no"', "twice"]) == "He said 'no' twice"
    assert quote_words(["one two three four five six seven eight nine"]).split()[-1] == "eight"
    assert len(quote_words(["incomprehensibilities " * 8])) <= MAX_QUOTED_CHARACTERS
    assert quote_words(["x" * 200]) == "x" * MAX_QUOTED_CHARACTERS
    assert quote_words([]) == ""
