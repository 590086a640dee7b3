"""Each stage of reading text, on arrays made for it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from mobile_multimodal.backends import Array
from mobile_multimodal.config import OcrConfig
from mobile_multimodal.ctc import decode
from mobile_multimodal.line_reader import cut_line, padded_width, read_boxes, read_lines, split_line
from mobile_multimodal.ocr import read_text
from mobile_multimodal.reading_order import median_angle, reading_order
from mobile_multimodal.text_boxes import TextBox, detect_boxes, fit_boxes, plan_size, probability_map

CONFIG = OcrConfig(characters="abc ")


class DarkIsText:
    """A backend for which a pixel's darkness is its probability, and a column's class its red / 32."""

    name = "fake"
    components = ("text_detector", "text_recognizer")

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def run(self, component: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        pixels = inputs["pixel_values"]
        assert pixels.dtype == np.uint8
        self.shapes.append(pixels.shape)
        if component == "text_detector":
            assert pixels.shape[1] % 32 == 0
            assert pixels.shape[2] % 32 == 0
            return {"probability": (255 - pixels[..., 0]).astype(np.float32) / 255}
        assert pixels.shape[2] % 8 == 0
        classes = pixels[:, 24, 4::8, 0] // 32
        return {"probability": np.eye(5, dtype=np.float32)[np.minimum(classes, 4) % 4]}


@pytest.mark.parametrize(
    ("picture", "seen"),
    [
        ((1000, 1000), (992, 992)),
        ((4000, 3000), (1600, 1216)),
        ((400, 368), (800, 736)),
        ((10, 10), (32, 32)),
        ((1, 1), (32, 32)),
        ((200, 20000), (320, 32768)),
        ((300, 6000), (608, 12000)),
    ],
)
def test_detector_size(picture: tuple[int, int], seen: tuple[int, int]) -> None:
    assert plan_size(*picture, CONFIG) == seen
    assert plan_size(*picture[::-1], CONFIG) == seen[::-1]


@pytest.mark.parametrize("shape", [(300, 7001), (6400, 300)])
def test_tiles_join_without_a_seam(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (*shape, 3)).astype(np.uint8)
    tiled_backend, whole_backend = DarkIsText(), DarkIsText()
    tiled = probability_map(tiled_backend, pixels, CONFIG)
    whole = probability_map(
        whole_backend, pixels, OcrConfig(detector_max_side=tiled.shape[0] + tiled.shape[1])
    )
    assert len(tiled_backend.shapes) > 4
    assert len(set(tiled_backend.shapes)) == len(whole_backend.shapes) == 1
    np.testing.assert_array_equal(tiled, whole)


@pytest.mark.parametrize("angle", [0.0, 3.0, -10.0, 30.0])
def test_a_region_becomes_a_grown_rectangle(angle: float) -> None:
    import cv2

    probability = np.zeros((320, 480), np.float32)
    corners = TextBox((240.0, 160.0), 200.0, 24.0, math.radians(angle), 1.0).corners()
    cv2.fillPoly(probability, [corners.astype(np.int32)], 0.9)
    (box,) = fit_boxes(probability, CONFIG)
    growth = 200 * 24 * CONFIG.unclip_ratio / (200 + 24)
    assert box.center == pytest.approx((240, 160), abs=1.5)
    assert (box.width, box.height) == pytest.approx((200 + growth, 24 + growth), abs=6.0)
    assert math.degrees(box.angle) == pytest.approx(angle, abs=1.0)
    assert box.score > CONFIG.box_threshold


def test_specks_and_doubtful_regions_are_dropped() -> None:
    probability = np.zeros((96, 96), np.float32)
    probability[10:12, 10:12] = 1.0
    probability[40:60, 20:80] = 0.4
    assert fit_boxes(probability, CONFIG) == []


def test_boxes_are_in_pixels_of_the_picture() -> None:
    pixels = np.full((1111, 1999, 3), 255, np.uint8)
    pixels[500:540, 300:900] = 0
    (box,) = detect_boxes(DarkIsText(), pixels, CONFIG)
    assert box.center == pytest.approx((599.5, 519.5), abs=2)
    left, top = box.clipped_corners((1999, 1111))[0]
    assert 255 < left < 300
    assert 455 < top < 500


def test_small_pictures_get_a_margin_that_boxes_do_not_show() -> None:
    pixels = np.full((40, 120, 3), 255, np.uint8)
    pixels[8:32, 10:110] = 0
    (box,) = detect_boxes(DarkIsText(), pixels, CONFIG)
    assert box.center == pytest.approx((59.5, 19.5), abs=1)
    (left, top), _, (right, bottom), _ = box.clipped_corners((120, 40))
    assert (left, top, right, bottom) == (0.0, 0.0, 120.0, 40.0)


@pytest.mark.parametrize("angle", [0.0, 5.0, -20.0])
def test_a_line_is_cut_upright(angle: float) -> None:
    import cv2

    box = TextBox((200.0, 150.0), 240.0, 48.0, math.radians(angle), 1.0)
    pixels = np.full((300, 400, 3), 255, np.uint8)
    cv2.fillPoly(pixels, [box.corners().astype(np.int32)], (0, 0, 0))
    cut = cut_line(pixels, box, 48)
    assert cut.shape == (48, 240, 3)
    assert cut[4:-4, 4:-4].max() < 40
    assert cut_line(pixels, TextBox((200.0, 150.0), 300.0, 120.0, 0.0, 1.0), 48).shape == (48, 120, 3)


def one_hot(text: str, characters: str = "abc ") -> NDArray[np.float32]:
    classes = [0 if c == "_" else characters.index(c) + 1 for c in text]
    return np.eye(len(characters) + 1, dtype=np.float32)[classes]


@pytest.mark.parametrize(
    ("steps", "text"), [("aa_abb__c", "aabc"), ("____", ""), ("_a_ _b", "a b"), ("a", "a"), ("", "")]
)
def test_best_path(steps: str, text: str) -> None:
    line = decode(one_hot(steps).reshape(len(steps), 5), "abc ")
    assert line.text == text
    assert line.confidence == (1.0 if text else 0.0)


def test_likely_spaces_are_put_back() -> None:
    probability = one_hot("_a_b_c")
    probability[2] = [0.8, 0, 0, 0, 0.2]
    probability[4] = [0.95, 0, 0, 0, 0.05]
    assert decode(probability, "abc ", space_threshold=0.1).text == "a bc"
    assert decode(probability, "abc ").text == "abc"
    assert decode(probability, "abcd", space_threshold=0.1).text == "abc", "no space in the dictionary"
    ruled = one_hot("_-_-", "ab- ")
    ruled[2] = [0.8, 0, 0, 0, 0.2]
    assert decode(ruled, "ab- ", space_threshold=0.1).text == "--"
    both = one_hot("_a_ _b")
    both[2] = [0.8, 0, 0, 0, 0.2]
    assert decode(both, "abc ", space_threshold=0.1).text == "a b"


@pytest.mark.parametrize(
    ("read", "place", "other", "share", "text"),
    [
        ("0ct", 0, "O", 0.02, "Oct"),
        ("0ct", 0, "O", 0.001, "0ct"),
        ("2O24", 1, "0", 0.02, "2024"),
        ("Ju1", 2, "l", 0.4, "Jul"),
        ("item1", 4, "l", 0.1, "item1"),
        ("eth0", 3, "O", 0.1, "eth0"),
        ("CO2", 1, "0", 0.3, "CO2"),
        ("A10", 1, "l", 0.45, "A10"),
        ("5O", 1, "0", 0.4, "5O"),
        ("1.0ct", 2, "O", 0.02, "1.Oct"),
    ],
)
def test_lookalikes_are_settled_by_their_word(
    read: str, place: int, other: str, share: float, text: str
) -> None:
    characters = "".join(sorted(set(read + other)))
    probability = np.repeat(one_hot("_".join(read), characters), 1, axis=0)
    probability[2 * place] *= 1 - share
    probability[2 * place, characters.index(other) + 1] = share
    line = decode(probability, characters)
    assert line.text == text
    assert line.confidence < 1.0


def test_widths_are_few() -> None:
    widths = {padded_width(width, CONFIG) for width in range(1, CONFIG.recognizer_max_width)}
    assert len(widths) < 32
    assert all(width % 8 == 0 for width in widths)
    assert all(
        width <= padded_width(width, CONFIG) <= max(128, 1.16 * width + 32) for width in range(1, 8000)
    )


def test_batches_are_bounded_and_keep_their_order() -> None:
    backend = DarkIsText()
    lines = [
        np.full((48, width, 3), 32 * (1 + i % 3), np.uint8) for i, width in enumerate([500, 90, 2000, 90] * 9)
    ]
    readings = read_lines(backend, lines, CONFIG)
    assert [reading.text[0] for reading in readings] == [("abc")[i % 3] for i in range(36)]
    assert all(b == 1 or b * w <= CONFIG.recognizer_batch_width for b, _, w, _ in backend.shapes)
    assert sum(b for b, *_ in backend.shapes) == 36


def test_long_lines_are_split_in_their_gaps() -> None:
    line = np.full((48, 1000, 3), 250, np.uint8)
    for start in range(0, 1000, 100):
        line[10:40, start : start + 60 : 2] = 0
    pieces, joints = split_line(line, 350)
    assert sum(piece.shape[1] for piece in pieces) == 1000
    assert all(piece.shape[1] <= 350 for piece in pieces)
    assert joints == [" "] * (len(pieces) - 1)
    assert all(piece[:, -2:].min() == 250 for piece in pieces)
    assert split_line(line, 1000)[1] == []


def box(left: float, top: float, right: float, bottom: float, slant: float = 0.0) -> TextBox:
    center = np.array([(left + right) / 2, (top + bottom) / 2])
    turn = np.array([[math.cos(slant), -math.sin(slant)], [math.sin(slant), math.cos(slant)]])
    x, y = turn @ center
    return TextBox((float(x), float(y)), right - left, bottom - top, slant, 1.0)


def shuffled_order(boxes: list[TextBox]) -> list[list[int]]:
    mixed = np.random.default_rng(3).permutation(len(boxes))
    return [[int(mixed[i]) for i in row] for row in reading_order([boxes[i] for i in mixed])]


@pytest.mark.parametrize("degrees", [0.0, 3.0, -3.0])
def test_a_receipt_is_read_across(degrees: float) -> None:
    slant = math.radians(degrees)
    rows = [(0, 260 + 9 * (i % 4), 700, 760) for i in range(12)]
    boxes = []
    for i, (left, middle, price, right) in enumerate(rows):
        boxes += [
            box(left, 40 * i, middle, 40 * i + 24, slant),
            box(price, 40 * i, right, 40 * i + 24, slant),
        ]
    assert shuffled_order(boxes) == [[2 * i, 2 * i + 1] for i in range(12)]
    assert math.degrees(median_angle(boxes)) == pytest.approx(degrees)


@pytest.mark.parametrize("degrees", [0.0, 2.0])
def test_columns_of_prose_are_read_one_after_the_other(degrees: float) -> None:
    slant = math.radians(degrees)
    title, foot = box(0, 0, 800, 40, slant), box(0, 500, 800, 520, slant)
    left = [box(0, 60 + 30 * i, 380 - 7 * (i % 3), 80 + 30 * i, slant) for i in range(10)]
    right = [box(420, 60 + 30 * i, 800 - 5 * (i % 4), 80 + 30 * i, slant) for i in range(10)]
    right[-1] = box(420, 330, 500, 350, slant)
    assert shuffled_order([title, *left, *right, foot]) == [[i] for i in range(22)]


def test_three_columns() -> None:
    columns = [[box(x, 30 * i, x + 240, 30 * i + 20) for i in range(8)] for x in (0.0, 280.0, 560.0)]
    assert shuffled_order([each for column in columns for each in column]) == [[i] for i in range(24)]


def test_a_long_receipt_is_ordered_quickly() -> None:
    boxes = [box(x, 30 * i, x + 80, 30 * i + 20) for i in range(400) for x in (0.0, 300.0, 600.0)]
    start = time.process_time()
    assert shuffled_order(boxes) == [[3 * i, 3 * i + 1, 3 * i + 2] for i in range(400)]
    assert time.process_time() - start < 10


def test_nothing_to_order() -> None:
    assert reading_order([]) == []


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (400, 1), (7, 3), (2500, 31)])
@pytest.mark.parametrize("shade", [0, 128, 255])
def test_odd_sizes_do_not_fail(size: tuple[int, int], shade: int) -> None:
    regions, timings = read_text(DarkIsText(), np.full((*size, 3), shade, np.uint8), CONFIG)
    assert all(region.text.strip() for region in regions)
    assert timings.keys() == {"detect", "recognize"}


class SurerWhenLying(DarkIsText):
    """Reads ``a`` everywhere, and is surer of lines wider than high."""

    def run(self, component: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        lying = (inputs["pixel_values"] == 0).all(axis=(1, 3)).sum(axis=1) > 48
        scores = np.where(lying, 0.9, 0.6)[:, None, None] * one_hot("b")[None]
        return {"probability": scores.astype(np.float32)}


def test_tall_boxes_are_read_every_way() -> None:
    pixels = np.zeros((300, 300, 3), np.uint8)
    tall = TextBox((150.0, 150.0), 40.0, 120.0, 0.0, 1.0)
    square = TextBox((150.0, 150.0), 40.0, 40.0, 0.0, 1.0)
    first, second = read_boxes(SurerWhenLying(), pixels, [tall, square], CONFIG)
    assert first.confidence == pytest.approx(0.9)
    assert second.confidence == pytest.approx(0.6)


def test_doubtful_lines_are_left_out() -> None:
    pixels = np.full((600, 800, 3), 255, np.uint8)
    pixels[200:240, 100:700] = 33
    sure = OcrConfig(characters="abc ", min_confidence=0.0)
    assert [region.text[0] for region in read_text(DarkIsText(), pixels, sure)[0]] == ["a"]
    never = OcrConfig(characters="   ", min_confidence=0.0)
    assert read_text(DarkIsText(), pixels, never)[0] == []
