"""The pictures that an artifact is compared on: parts of photos, and lines of text drawn here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mobile_multimodal.image import LoadedImage, load_image

__all__ = ["QUESTIONS", "parity_pictures"]

FOLDER = Path(__file__).parent / "pictures"
"""Small copies of the photos in ``examples/images``, whose CREDITS.md holds for them."""
QUESTIONS = ("What is in the picture?", "What color is it?")
SIDE = 400
LINES = (
    "Total 12.50 EUR",
    "Exit 25 North",
    "Please close the gate",
    "Flight BA 117 Gate 7",
    "Open Monday to Friday",
    "Invoice No. 2048-3",
    "Fragile: this side up",
    "Best before 03.2027",
)


def parity_pictures(count: int = 32) -> list[LoadedImage]:
    """So many pictures, always the same: photos in four parts, a quarter of them pages of text.

    Raises:
        ValueError: fewer than 4, which would leave out a kind.
    """
    if count < 4:
        raise ValueError(f"{count} pictures are fewer than 4")
    photos = [load_image(path) for path in sorted(FOLDER.glob("*.jpg"))]
    pages = count // 4
    pictures = [_part(photos[number % len(photos)], number // len(photos)) for number in range(count - pages)]
    return [*pictures, *(_page(number) for number in range(pages))]


def _part(photo: LoadedImage, number: int) -> LoadedImage:
    """The whole photo, its left or right two thirds, or its middle."""
    width = photo.pixels.shape[1]
    parts = ((0, width), (0, 2 * width // 3), (width // 3, width), (width // 6, 5 * width // 6))
    left, right = parts[number % len(parts)]
    part = np.ascontiguousarray(photo.pixels[:, left:right])
    return load_image(part, source=f"{photo.source} columns {left}-{right}")


def _page(number: int) -> LoadedImage:
    """A page of four lines in sizes from 14 to 35 pixels."""
    page = Image.new("RGB", (SIDE, SIDE), (250 - 5 * number, 248, 240))
    draw = ImageDraw.Draw(page)
    for row in range(4):
        size = 14 + 7 * ((number + row) % 4)
        draw.text(
            (20 + 3 * number, 30 + 90 * row),
            LINES[(number + 3 * row) % len(LINES)],
            fill=(20, 20, 40 + 10 * number),
            font=ImageFont.load_default(size),
        )
    return load_image(np.asarray(page), source=f"page {number}")
