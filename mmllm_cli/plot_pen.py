"""Lines, shapes and words of a plot, drawn with Pillow alone."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from mmllm_cli.output_files import check_can_write
from mobile_multimodal.errors import UsageError

__all__ = [
    "AXIS",
    "COLORS",
    "GRID",
    "HEIGHT",
    "INK",
    "TITLE_SIZE",
    "WIDTH",
    "Pen",
    "check_plot",
    "round_step",
]

WIDTH, HEIGHT = 1200, 640
# Drawn larger and scaled down, because Pillow draws shapes with jagged edges.
OVERSAMPLING = 3
FONT_SIZE, TITLE_SIZE = 15, 19
# Okabe and Ito's colours, and a grey, which colour-blind people can tell apart.
COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#555555")
INK, AXIS, GRID = "#333333", "#999999", "#e5e5e5"


def check_plot(path: Path) -> None:
    """Refuse a plot that cannot be written, before any work.

    Raises:
        UsageError: a name that does not end in ``.png``, or a place that cannot be written.
    """
    if path.suffix.lower() != ".png":
        raise UsageError(f"{path}: a plot is a PNG file", remedy="give a name that ends in .png")
    check_can_write(path)


def round_step(span: float) -> float:
    """The smallest distance of round numbers (1, 2 or 5 times a power of ten) with ten steps at most."""
    if span <= 0:
        return 1.0
    exponent = math.floor(math.log10(span)) - 2
    steps = (float(f"{factor}e{exponent + more}") for more in range(4) for factor in (1, 2, 5))
    return next(step for step in steps if span <= 10 * step)


class Pen:
    """Draws in pixels of the finished picture on one that is ``OVERSAMPLING`` times as large."""

    def __init__(self) -> None:
        self._picture = Image.new("RGB", (WIDTH * OVERSAMPLING, HEIGHT * OVERSAMPLING), "white")
        self._draw = ImageDraw.Draw(self._picture)

    def line(self, x1: float, y1: float, x2: float, y2: float, color: str) -> None:
        """A straight line, one pixel wide."""
        self.path([(x1, y1), (x2, y2)], color, 1)

    def path(self, points: Sequence[tuple[float, float]], color: str, width: int = 2) -> None:
        """A line through points, in order."""
        places = [(OVERSAMPLING * x, OVERSAMPLING * y) for x, y in points]
        self._draw.line(places, fill=color, width=width * OVERSAMPLING)

    def marker(self, x: float, y: float, radius: float, sides: int, color: str) -> None:
        """A filled shape of so many equal sides."""
        circle = (OVERSAMPLING * x, OVERSAMPLING * y, OVERSAMPLING * radius)
        self._draw.regular_polygon(circle, sides, fill=color)

    def text(self, x: float, y: float, text: str, *, anchor: str = "lm", size: int = FONT_SIZE) -> float:
        """Write the text, ``y`` being the middle of its line; returns where a left-bound one ends."""
        font = ImageFont.load_default(size=OVERSAMPLING * size)
        self._draw.text((OVERSAMPLING * x, OVERSAMPLING * y), text, fill=INK, font=font, anchor=anchor)
        return x + self._draw.textlength(text, font=font) / OVERSAMPLING

    def png(self) -> bytes:
        """The finished picture as a PNG file; the same strokes give the same bytes."""
        stream = io.BytesIO()
        small = self._picture.resize((WIDTH, HEIGHT), Image.Resampling.BOX)
        small.save(stream, format="PNG", optimize=True)
        return stream.getvalue()
