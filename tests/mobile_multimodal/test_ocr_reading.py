"""The whole way from picture to text, with the real weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mobile_multimodal.backends import Array
from mobile_multimodal.config import OcrConfig
from mobile_multimodal.networks.text_detector import TextDetector
from mobile_multimodal.networks.text_recognizer import TextRecognizer
from mobile_multimodal.ocr import read_text
from mobile_multimodal.ocr_formats import to_text
from training.import_ocr import load_ocr_weights


class TorchOcr:
    """The imported networks in torch, as a backend."""

    name = "torch"
    components = ("text_detector", "text_recognizer")

    def __init__(self) -> None:
        weights = load_ocr_weights()
        detector, recognizer = TextDetector(), TextRecognizer(len(weights.characters) + 1)
        detector.load_state_dict(weights.detector)
        recognizer.load_state_dict(weights.recognizer)
        self.networks = {"text_detector": detector.eval(), "text_recognizer": recognizer.eval()}
        self.config = OcrConfig(characters=weights.characters)
        self.shapes: set[tuple[int, ...]] = set()

    def run(self, component: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        pixels = torch.from_numpy(np.asarray(inputs["pixel_values"], np.uint8))
        self.shapes.add(tuple(pixels.shape))
        with torch.inference_mode():
            return {"probability": self.networks[component](pixels).numpy()}


@pytest.fixture(scope="module")
def ocr() -> TorchOcr:
    pytest.importorskip("rapidocr", reason="no text was read with the real weights: no rapidocr")
    return TorchOcr()


def page(lines: list[tuple[float, float, str]], size: tuple[int, int], font_size: int = 22) -> Image.Image:
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=font_size)
    for left, top, text in lines:
        draw.text((left, top), text, fill=(30, 30, 60), font=font)
    return picture


def read(ocr: TorchOcr, picture: Image.Image | NDArray[np.uint8]) -> str:
    return to_text(read_text(ocr, np.asarray(picture), ocr.config)[0])


RECEIPT = [
    (20.0, 20.0, "Corner Shop, 12 Mill Lane"),
    (20.0, 60.0, "Milk 2 l"),
    (400.0, 60.0, "3.20"),
    (20.0, 100.0, "Dark bread"),
    (400.0, 100.0, "4.75"),
    (20.0, 140.0, "Total EUR"),
    (400.0, 140.0, "7.95"),
]
RECEIPT_TEXT = "Corner Shop, 12 Mill Lane\nMilk 2 l 3.20\nDark bread 4.75\nTotal EUR 7.95"


@pytest.mark.parametrize("degrees", [0.0, 3.0, -3.0])
def test_a_receipt(ocr: TorchOcr, degrees: float) -> None:
    picture = page(RECEIPT, (500, 200)).rotate(degrees, Image.Resampling.BICUBIC, True, fillcolor="white")
    assert read(ocr, picture) == RECEIPT_TEXT


def test_boxes_surround_the_text(ocr: TorchOcr) -> None:
    regions, timings = read_text(ocr, np.asarray(page(RECEIPT, (500, 200))), ocr.config)
    assert len(regions) == len(RECEIPT)
    for region, (left, top, _) in zip(regions, RECEIPT, strict=True):
        corner = region.box[0]
        assert left - 15 < corner[0] < left + 5
        assert top - 10 < corner[1] < top + 12
        assert 0.9 < region.confidence <= 1.0
    assert all(value > 0 for value in timings.values())


def test_a_small_crop(ocr: TorchOcr) -> None:
    assert read(ocr, page([(3, 1, "Harbour")], (90, 26))) == "Harbour"


def test_one_standing_character_is_not_turned(ocr: TorchOcr) -> None:
    assert read(ocr, page([(60, 40, "1")], (140, 140), 48)) in {"1", "l", "I"}


def test_text_that_runs_up(ocr: TorchOcr) -> None:
    picture = page([(30, 20, "Fragile: this side up")], (320, 70))
    assert read(ocr, picture.transpose(Image.Transpose.ROTATE_90)) == "Fragile: this side up"


def test_a_very_long_strip_is_read_to_its_end(ocr: TorchOcr) -> None:
    lines = [(8.0, 20.0 + 400 * i, f"Entry {i + 1}") for i in range(10)]
    assert read(ocr, page(lines, (200, 4000), 18)).split("\n") == [text for _, _, text in lines]


@pytest.mark.parametrize("size", [(1, 1), (300, 2), (64, 64)])
def test_pictures_without_text(ocr: TorchOcr, size: tuple[int, int]) -> None:
    for shade in (0, 255):
        assert read(ocr, np.full((*size, 3), shade, np.uint8)) == ""


def test_noise_has_no_text(ocr: TorchOcr) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (224, 224, 3)).astype(np.uint8)
    assert read(ocr, noise) == ""
