"""The check on drawn pictures counts the captions that name something untrue."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from benchmarks.evaluate_non_photos import draw_held_out, evaluate_non_photos, untrue_words
from benchmarks.non_photos import KINDS, draw_non_photo
from mobile_multimodal.errors import UsageError
from mobile_multimodal.image import LoadedImage
from mobile_multimodal.results import GenerationConfig, TaskRequest, TaskResult


class Parrot:
    """Says the same of every picture."""

    name, recipe, sha256 = "parrot", "none", "0"

    def __init__(self, caption: str) -> None:
        self.caption = caption

    def run(
        self,
        images: Sequence[LoadedImage],
        requests: Sequence[TaskRequest],
        generation: GenerationConfig | None = None,
    ) -> list[list[TaskResult]]:
        return [[TaskResult("caption", self.caption, 0.5)] for _ in images]


def test_what_is_not_there_is_untrue_and_quotes_are_not_judged() -> None:
    receipt = draw_non_photo("receipt", random.Random(0), held_out=True)
    assert untrue_words("A man on a surfboard.", receipt) == ["man", "surfboard"]
    assert untrue_words('A printed receipt that begins with "A man on a surfboard".', receipt) == []
    assert untrue_words("A page of text.", receipt) == []


def test_a_model_that_sees_people_everywhere_is_never_right() -> None:
    report = evaluate_non_photos(Parrot("A man holding a camera."), 20, 0)
    for metric in ("true_captions_percent", "nothing_invented_percent"):
        figure = report.figure(metric, "non-photos")
        assert (figure.value, figure.samples) == (0.0, 20)
    assert len(report.notes) == 20
    assert "not there: man, holding, camera" in report.notes[0]


def test_a_model_that_says_nothing_wrong_is_always_right() -> None:
    seen: list[int] = []
    report = evaluate_non_photos(
        Parrot("An image."), 3, 0, progress=lambda done, total: seen.append(10 * done + total)
    )
    assert report.figure("true_captions_percent", "non-photos").value == 100.0
    assert seen == [13, 23, 33]
    assert [row["kind"] for row in report.rows] == list(KINDS[:3])


def test_a_wrong_color_is_untrue_but_no_invention() -> None:
    report = evaluate_non_photos(Parrot("A red and green and blue image."), 18, 0)
    assert report.figure("nothing_invented_percent", "non-photos").value == 100.0
    assert report.figure("true_captions_percent", "non-photos").value < 50.0


def test_another_seed_draws_other_pictures() -> None:
    first, second = draw_held_out(18, 0), draw_held_out(18, 1)
    assert [picture.kind for picture in first] == list(KINDS)
    assert any(a.pixels.shape != b.pixels.shape for a, b in zip(first, second, strict=True))


def test_no_pictures_are_no_evaluation() -> None:
    with pytest.raises(UsageError, match="0 pictures"):
        evaluate_non_photos(Parrot(""), 0, 0)
