"""Overlap of boxes against OpenCV, reading order, and what counts as found."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from benchmarks.evaluation_data import TruthBox
from benchmarks.text_matching import count_found, drop_illegible, intersection_area, page_text, quad_iou
from mobile_multimodal.results import Box, TextRegion


def box(left: float, top: float, right: float, bottom: float) -> Box:
    return (left, top), (right, top), (right, bottom), (left, bottom)


def region(text: str, *corners: float) -> TextRegion:
    left, top, right, bottom = corners
    return TextRegion(text, box(left, top, right, bottom), 0.9)


def truth(text: str, *corners: float) -> TruthBox:
    left, top, right, bottom = corners
    return TruthBox(box(left, top, right, bottom), text, text != "###")


def turned(rng: np.random.Generator) -> Box:
    corners = cv2.boxPoints(
        (tuple(rng.uniform(0, 60, 2)), tuple(rng.uniform(5, 60, 2)), float(rng.uniform(0, 180)))
    )
    a, b, c, d = ((float(x), float(y)) for x, y in corners)
    return a, b, c, d


@pytest.mark.parametrize("seed", range(60))
def test_intersection_agrees_with_opencv(seed: int) -> None:
    rng = np.random.default_rng(seed)
    left, right = turned(rng), turned(rng)
    expected, _ = cv2.intersectConvexConvex(np.array(left, np.float32), np.array(right, np.float32))
    for first in left, left[::-1]:
        assert intersection_area(first, right) == pytest.approx(expected, rel=1e-3, abs=0.05)
        assert intersection_area(right, first) == pytest.approx(expected, rel=1e-3, abs=0.05)


def test_iou_by_hand() -> None:
    assert quad_iou(box(0, 0, 10, 10), box(0, 0, 10, 10)) == pytest.approx(1.0)
    assert quad_iou(box(0, 0, 10, 10), box(5, 0, 15, 10)) == pytest.approx(1 / 3)
    assert quad_iou(box(0, 0, 10, 10), box(10, 0, 20, 10)) == pytest.approx(0.0)
    assert quad_iou(box(0, 0, 10, 10), box(50, 50, 60, 60)) == 0.0
    assert quad_iou(box(3, 3, 3, 3), box(3, 3, 3, 3)) == 0.0


def test_page_text_runs_along_lines_even_when_they_slope() -> None:
    boxes = [
        truth("9.00", 300, 16, 340, 36),
        truth("below", 10, 40, 80, 60),
        truth("Total", 10, 10, 80, 30),
        truth("###", 100, 10, 140, 30),
        truth("due", 150, 13, 190, 33),
    ]
    assert page_text(boxes) == "Total due 9.00 below"


def test_a_line_serves_a_line_or_its_words_but_not_both() -> None:
    line = region("kachang puteh", 0, 0, 130, 20)
    words = [truth("KACHANG", 0, 0, 70, 20), truth("PUTEH", 80, 0, 130, 20)]
    assert count_found([line], [truth("Kachang Puteh", 0, 0, 128, 20)]) == (1, 1)
    assert count_found([line], words) == (2, 2)
    # The better overlap wins: here the words', there the line's.
    assert count_found([line], [*words, truth("Kachang Puteh", 0, 0, 120, 20)]) == (2, 3)
    loose = [truth("KACHANG", 0, 0, 60, 20), truth("PUTEH", 70, 0, 130, 20)]
    assert count_found([line], [*loose, truth("Kachang Puteh", 0, 0, 130, 20)]) == (1, 3)
    # One region cannot find the same word twice.
    assert count_found([region("stop", 0, 0, 40, 20)], [truth("stop", 0, 0, 40, 20)] * 2) == (1, 2)


def test_text_and_place_must_both_agree() -> None:
    wanted = [truth("EXIT", 0, 0, 40, 20)]
    assert count_found([region("Exit", 2, 1, 41, 20)], wanted) == (1, 1)
    assert count_found([region("Exlt", 0, 0, 40, 20)], wanted) == (0, 1)
    assert count_found([region("Exit", 30, 0, 70, 20)], wanted) == (0, 1)
    assert count_found([], wanted) == (0, 1)


def test_what_was_read_on_illegible_text_is_not_judged() -> None:
    boxes = [truth("###", 0, 0, 40, 20), truth("###", 40, 0, 60, 20), truth("exit", 100, 0, 140, 20)]
    regions = [region("a", 0, 0, 60, 20), region("b", 30, 0, 120, 20), region("exit", 100, 0, 140, 20)]
    assert [kept.text for kept in drop_illegible(regions, boxes)] == ["b", "exit"]
