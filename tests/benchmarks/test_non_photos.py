"""Drawn pictures: reproducible, apart from those held out, and truthful about themselves."""

from __future__ import annotations

import random

import numpy as np
import pytest

from benchmarks.non_photo_words import COLORS, two_colors
from benchmarks.non_photos import KINDS, draw_non_photo
from mobile_multimodal.tasks import BEGINS

PAGES = {"letter", "receipt", "table", "terminal", "web page", "form", "slide"}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_draws_a_picture_that_its_captions_may_describe(kind: str) -> None:
    picture = draw_non_photo(kind, random.Random(3))
    assert picture.pixels.dtype == np.uint8
    assert picture.pixels.ndim == 3
    assert picture.pixels.shape[2] == 3
    assert min(picture.pixels.shape[:2]) >= 100
    assert len(picture.captions) >= 3
    for caption in picture.captions:
        assert caption == caption.lower().strip(".")
        assert set(caption.split()) <= picture.allowed
        assert caption.endswith(BEGINS) == (kind in PAGES)
    assert all(question and answer for question, answer in picture.questions)
    assert not picture.allowed & {"man", "person", "dog", "sign", "building"}


def test_the_same_seed_draws_the_same_and_held_out_pictures_are_others() -> None:
    for kind in KINDS:
        first, again = (draw_non_photo(kind, random.Random(5)) for _ in range(2))
        assert np.array_equal(first.pixels, again.pixels)
        held = draw_non_photo(kind, random.Random(5), held_out=True)
        assert held.pixels.shape != first.pixels.shape or not np.array_equal(held.pixels, first.pixels)


def test_pairs_of_colors_are_held_out() -> None:
    rng = random.Random(0)
    training, held = ({two_colors(rng, out) for _ in range(2000)} for out in (False, True))
    assert len(held) >= 10
    assert not training & held


def test_a_plain_picture_has_the_color_that_it_says() -> None:
    for seed in range(12):
        picture = draw_non_photo("plain", random.Random(seed))
        name = picture.captions[0].split()[2]
        assert np.ptp(picture.pixels.reshape(-1, 3), axis=0).max() == 0
        assert np.abs(picture.pixels[0, 0].astype(int) - np.array(COLORS[name])).max() <= 16


def test_an_unknown_kind_is_no_picture() -> None:
    with pytest.raises(KeyError):
        draw_non_photo("poem", random.Random(0))
