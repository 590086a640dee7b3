"""The noise of every quantized weight as a picture: a point each, coloured by component, shaped by bits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mmllm_cli.plot_pen import AXIS, COLORS, GRID, HEIGHT, INK, TITLE_SIZE, WIDTH, Pen, check_plot, round_step
from mobile_multimodal.errors import InconclusiveError
from quantization.report import QuantizationReport

__all__ = ["SqnrPlot", "SqnrPoint", "check_plot", "draw_sqnr", "place_points"]

LEFT, TOP, RIGHT, BOTTOM = 80, 96, WIDTH - 30, HEIGHT - 70
RADIUS = 5
MARKER_SIDES = {2: 3, 4: 4, 8: 32}
"""Bits → sides of the marker: a triangle, a square, a circle."""


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
    pen = Pen()
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
        pen.marker(point.x, point.y, RADIUS, point.sides, point.color)
    return pen.png()


def _step(span: int) -> int:
    """The distance of round whole numbers that divides a span into ten parts at most."""
    return max(1, round(round_step(span)))


def _draw_legend(pen: Pen, plot: SqnrPlot) -> None:
    x = float(LEFT)
    entries = [(name, MARKER_SIDES[8], color) for name, color in plot.colors.items()]
    entries += [(f"{bits} bits", sides, INK) for bits, sides in plot.markers.items()]
    for label, sides, color in entries:
        pen.marker(x + RADIUS, 58, RADIUS, sides, color)
        x = pen.text(x + 4 * RADIUS, 58, label) + 28
