"""The noise of every quantized weight as a picture: a point each, coloured by component, shaped by bits."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from mmllm_cli.output_files import check_can_write
from mobile_multimodal.errors import InconclusiveError, UsageError
from quantization.report import QuantizationReport

__all__ = ["SqnrPlot", "SqnrPoint", "check_plot", "draw_sqnr", "place_points"]

WIDTH, HEIGHT = 1200, 640
LEFT, TOP, RIGHT, BOTTOM = 80, 96, WIDTH - 30, HEIGHT - 70
# Drawn larger and scaled down, because Pillow draws shapes with jagged edges.
OVERSAMPLING = 3
RADIUS = 5
FONT_SIZE, TITLE_SIZE = 15, 19
# Okabe and Ito's colours, which colour-blind people can tell apart.
COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9")
MARKER_SIDES = {2: 3, 4: 4, 8: 32}
"""Bits → sides of the marker: a triangle, a square, a circle."""
INK, AXIS, GRID = "#333333", "#999999", "#e5e5e5"


@dataclass(frozen=True)
class SqnrPoint:
    """One weight: ``x`` and ``y`` in pixels of the picture, its colour, and the sides of its marker."""

    x: float
    y: float
    color: str
    sides: int


@dataclass(frozen=True)
class SqnrPlot:
    """Where everything stands: points in the report's order, grid lines by value, what the signs mean."""

    points: tuple[SqnrPoint, ...]
    db_lines: Mapping[int, float]
    number_lines: Mapping[int, float]
    colors: Mapping[str, str]
    markers: Mapping[int, int]


def check_plot(path: Path) -> None:
    """Refuse a plot that cannot be written, before any work.

    Raises:
        UsageError: a name that does not end in ``.png``, or a place that cannot be written.
    """
    if path.suffix.lower() != ".png":
        raise UsageError(f"{path}: a plot is a PNG file", remedy="give a name that ends in .png")
    check_can_write(path)


def place_points(report: QuantizationReport) -> SqnrPlot:
    """Lay the plot out: weights with noise from left to right, SQNR in dB from bottom to top.

    Tensors that were stored as they were, or that quantization changed in nothing, have no point.

    Raises:
        InconclusiveError: no tensor of the report has an SQNR.
    """
    rows = [(row.component, row.bits, row.sqnr_db) for row in report.tensors if row.sqnr_db is not None]
    if not rows:
        raise InconclusiveError(
            f"{report.recipe}: no weight was changed, so there is no SQNR to plot", remedy="leave --plot out"
        )
    values = [noise for _, _, noise in rows]
    lowest, highest = math.floor(min(values)), math.ceil(max(values))
    step = _step(highest - lowest)
    floor = step * math.floor(lowest / step)
    ceiling = max(step * math.ceil(highest / step), floor + step)
    components = dict.fromkeys(component for component, _, _ in rows)
    colors = {name: COLORS[number % len(COLORS)] for number, name in enumerate(components)}

    def across(number: int) -> float:
        first, last = LEFT + 2 * RADIUS, RIGHT - 2 * RADIUS
        return first + (number - 0.5) * (last - first) / len(rows)

    def upwards(noise: float) -> float:
        return BOTTOM - (noise - floor) * (BOTTOM - TOP) / (ceiling - floor)

    numbers = [1, *range(_step(len(rows)), len(rows) + 1, _step(len(rows)))]
    return SqnrPlot(
        points=tuple(
            SqnrPoint(across(number), upwards(noise), colors[component], MARKER_SIDES[bits])
            for number, (component, bits, noise) in enumerate(rows, start=1)
        ),
        db_lines={value: upwards(value) for value in range(floor, ceiling + 1, step)},
        number_lines={number: across(number) for number in numbers},
        colors=colors,
        markers={bits: MARKER_SIDES[bits] for bits in sorted({bits for _, bits, _ in rows})},
    )


def draw_sqnr(report: QuantizationReport) -> bytes:
    """The plot as a PNG file; the same report gives the same pixels.

    Raises:
        InconclusiveError: no tensor of the report has an SQNR.
    """
    plot = place_points(report)
    picture = Image.new("RGB", (WIDTH * OVERSAMPLING, HEIGHT * OVERSAMPLING), "white")
    pen = _Pen(ImageDraw.Draw(picture))
    pen.text(LEFT, 26, f"{report.recipe}: SQNR of {len(plot.points):,} quantized weights", size=TITLE_SIZE)
    _draw_legend(pen, plot)
    for value, y in plot.db_lines.items():
        pen.line(LEFT, y, RIGHT, y, GRID)
        pen.text(LEFT - 10, y, str(value), anchor="rm")
    for number, x in plot.number_lines.items():
        pen.line(x, BOTTOM, x, BOTTOM + 5, AXIS)
        pen.text(x, BOTTOM + 18, f"{number:,}", anchor="mm")
    pen.line(LEFT, TOP, LEFT, BOTTOM, AXIS)
    pen.line(LEFT, BOTTOM, RIGHT, BOTTOM, AXIS)
    pen.text(LEFT - 10, TOP - 20, "dB", anchor="rm")
    pen.text((LEFT + RIGHT) / 2, HEIGHT - 22, "quantized weight, in the order of the report", anchor="mm")
    for point in plot.points:
        pen.marker(point.x, point.y, point.sides, point.color)
    stream = io.BytesIO()
    picture.resize((WIDTH, HEIGHT), Image.Resampling.BOX).save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def _step(span: int) -> int:
    """The distance of round numbers that divides a span into ten parts at most."""
    scale = 1
    while True:
        for factor in (1, 2, 5):
            if span <= 10 * factor * scale:
                return factor * scale
        scale *= 10


def _draw_legend(pen: _Pen, plot: SqnrPlot) -> None:
    x = float(LEFT)
    entries = [(name, MARKER_SIDES[8], color) for name, color in plot.colors.items()]
    entries += [(f"{bits} bits", sides, INK) for bits, sides in plot.markers.items()]
    for label, sides, color in entries:
        pen.marker(x + RADIUS, 58, sides, color)
        x = pen.text(x + 4 * RADIUS, 58, label) + 28


class _Pen:
    """Draws in pixels of the finished picture on one that is ``OVERSAMPLING`` times as large."""

    def __init__(self, draw: ImageDraw.ImageDraw) -> None:
        self._draw = draw

    def line(self, x1: float, y1: float, x2: float, y2: float, color: str) -> None:
        ends = [OVERSAMPLING * place for place in (x1, y1, x2, y2)]
        self._draw.line(ends, fill=color, width=OVERSAMPLING)

    def marker(self, x: float, y: float, sides: int, color: str) -> None:
        circle = (OVERSAMPLING * x, OVERSAMPLING * y, OVERSAMPLING * RADIUS)
        self._draw.regular_polygon(circle, sides, fill=color)

    def text(self, x: float, y: float, text: str, *, anchor: str = "lm", size: int = FONT_SIZE) -> float:
        """Write the text, ``y`` being the middle of its line; returns where a left-bound one ends."""
        font = ImageFont.load_default(size=OVERSAMPLING * size)
        self._draw.text((OVERSAMPLING * x, OVERSAMPLING * y), text, fill=INK, font=font, anchor=anchor)
        return x + self._draw.textlength(text, font=font) / OVERSAMPLING
