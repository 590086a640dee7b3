"""What the drawn pictures share: the record of a drawing, and colours by name."""

from __future__ import annotations

import random
from dataclasses import dataclass

from PIL import Image, ImageDraw

from benchmarks.page_sheet import Color

__all__ = [
    "COLORS",
    "INKS",
    "NUMBERS",
    "Asked",
    "Drawing",
    "a",
    "canvas",
    "canvas_size",
    "shade",
    "two_colors",
]

Asked = tuple[tuple[str, str], ...]
"""Questions with their answers."""

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight")

COLORS: dict[str, Color] = {
    "white": (250, 250, 250),
    "black": (12, 12, 12),
    "grey": (128, 128, 128),
    "red": (214, 30, 36),
    "green": (34, 150, 60),
    "blue": (30, 80, 210),
    "yellow": (245, 214, 30),
    "orange": (242, 130, 22),
    "purple": (124, 44, 158),
    "pink": (245, 130, 180),
    "brown": (112, 68, 34),
}

INKS = ("red", "green", "blue", "orange", "purple", "yellow", "grey", "black", "brown", "pink")


@dataclass(frozen=True)
class Drawing:
    """A picture and what is true of it.

    ``also`` are further words that a true caption may use. ``is_flat``: it may be framed, blurred and lit
    without a caption becoming untrue.
    """

    image: Image.Image
    captions: tuple[str, ...]
    questions: Asked
    also: frozenset[str] = frozenset()
    is_flat: bool = True


def a(word: str) -> str:
    """The word behind its article."""
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def shade(name: str, rng: random.Random) -> Color:
    """The colour of this name, a little off."""
    spread = 5 if name in ("white", "black") else 16
    red, green, blue = (min(255, max(0, part + rng.randint(-spread, spread))) for part in COLORS[name])
    if name == "grey":
        return (red, red, red)
    return red, green, blue


def two_colors(rng: random.Random, held_out: bool) -> tuple[str, str]:
    """Two different colours that can be told apart; a fifth of the pairs is held out."""
    names = list(COLORS)
    alike = ({"red", "pink"}, {"red", "orange"}, {"yellow", "orange"}, {"red", "brown"}, {"black", "brown"},
             {"orange", "brown"}, {"blue", "purple"}, {"pink", "purple"}, {"grey", "brown"})  # fmt: skip
    while True:
        first, second = rng.sample(names, 2)
        if {first, second} in alike:
            continue
        if ((names.index(first) * 7 + names.index(second) * 3) % 5 == 0) == held_out:
            return first, second


def canvas_size(rng: random.Random) -> tuple[int, int]:
    """Width and height of a drawing."""
    return rng.randint(200, 420), rng.randint(200, 420)


def canvas(rng: random.Random, color: Color) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """A ground of this colour, and a pen on it."""
    image = Image.new("RGB", canvas_size(rng), color)
    return image, ImageDraw.Draw(image)
