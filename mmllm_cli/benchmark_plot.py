"""The latencies of reports as a picture: their histogram, and the share of samples below each latency."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.report import BenchmarkReport, Measurement
from mmllm_cli.plot_pen import AXIS, COLORS, GRID, HEIGHT, TITLE_SIZE, WIDTH, Pen, round_step
from mobile_multimodal.errors import InconclusiveError

__all__ = ["LatencyCurve", "LatencyPlot", "draw_latency", "place_curves"]

LEFT, MIDDLE, RIGHT, BOTTOM = 40, 90, WIDTH - 30, HEIGHT - 70
ROW = 24
BINS = 40
MARK = 5.0

Point = tuple[float, float]


@dataclass(frozen=True)
class LatencyCurve:
    """One report: its name and colour, and both lines in pixels of the picture."""

    name: str
    color: str
    histogram: tuple[Point, ...]
    cumulative: tuple[Point, ...]


@dataclass(frozen=True)
class LatencyPlot:
    """Where everything stands: the curves, and the grid of both halves by value."""

    metric: str
    curves: tuple[LatencyCurve, ...]
    top: float
    left_ms: dict[float, float]
    right_ms: dict[float, float]
    percents: dict[int, float]


def place_curves(reports: Sequence[BenchmarkReport], metric: str) -> LatencyPlot:
    """Lay the plot out: milliseconds to the right; samples of a bin, and per cent of samples, upwards.

    The axes end at the slowest report's 99th percentile of its samples; what is slower still is in no bin
    of the histogram, and ends the other line at the axis' end.

    Raises:
        InconclusiveError: a report without samples of this metric.
    """
    rows = [(report.title, report.metric(metric)) for report in reports]
    for title, measurement in rows:
        if not measurement.samples:
            raise InconclusiveError(f"{title}: {metric} has no samples to plot")
    lowest = min(min(measurement.samples) for _, measurement in rows)
    highest = max(_near_highest(measurement) for _, measurement in rows)
    step = round_step(max(highest - lowest, 1e-3))
    floor = step * math.floor(lowest / step)
    ceiling = max(step * math.ceil(highest / step), floor + step)
    half = (RIGHT - LEFT - MIDDLE) / 2
    top = 62.0 + ROW * len(rows)

    def across(ms: float, start: float) -> float:
        return start + (min(ms, ceiling) - floor) * half / (ceiling - floor)

    def upwards(share: float) -> float:
        return BOTTOM - share * (BOTTOM - top)

    counts = [_bins(measurement.samples, floor, ceiling) for _, measurement in rows]
    most = max(max(row) for row in counts)
    curves = []
    for number, ((title, measurement), row) in enumerate(zip(rows, counts, strict=True)):
        edges = [across(floor + index * (ceiling - floor) / BINS, LEFT) for index in range(BINS + 1)]
        outline = [(edges[0], upwards(0.0))]
        for index, count in enumerate(row):
            outline += [(edges[index], upwards(count / most)), (edges[index + 1], upwards(count / most))]
        outline.append((edges[-1], upwards(0.0)))
        ordered = sorted(measurement.samples)
        steps = [(across(ordered[0], LEFT + half + MIDDLE), upwards(0.0))]
        for index, ms in enumerate(ordered):
            x = across(ms, LEFT + half + MIDDLE)
            steps += [(x, upwards(index / len(ordered))), (x, upwards((index + 1) / len(ordered)))]
        color = COLORS[number % len(COLORS)]
        curves.append(LatencyCurve(title, color, tuple(outline), tuple(steps)))
    ticks = [floor + index * step for index in range(round((ceiling - floor) / step) + 1)]
    return LatencyPlot(
        metric=metric,
        curves=tuple(curves),
        top=top,
        left_ms={ms: across(ms, LEFT) for ms in ticks},
        right_ms={ms: across(ms, LEFT + half + MIDDLE) for ms in ticks},
        percents={percent: upwards(percent / 100) for percent in (0, 25, 50, 75, 90, 95, 99, 100)},
    )


def draw_latency(reports: Sequence[BenchmarkReport], metric: str) -> bytes:
    """The plot as a PNG file; the same reports give the same pixels.

    Raises:
        InconclusiveError: a report without samples of this metric.
    """
    plot = place_curves(reports, metric)
    pen = Pen()
    first = reports[0]
    where = f"threads {first.config.get('threads')}, {first.environment.get('cpu')}"
    pen.text(LEFT, 26, f"{metric}, {first.scenario}, {where}", size=TITLE_SIZE)
    for number, (curve, report) in enumerate(zip(plot.curves, reports, strict=True)):
        y = 54.0 + ROW * number
        pen.marker(LEFT + MARK, y, MARK, 32, curve.color)
        found = report.metric(metric)
        legend = f"{curve.name}: median {found.center:.2f} ms of {len(found.samples):,}"
        pen.text(LEFT + 4 * MARK, y, legend)
    starts = (min(plot.left_ms.values()), min(plot.right_ms.values()))
    ends = (max(plot.left_ms.values()), max(plot.right_ms.values()))
    for percent, y in plot.percents.items():
        pen.line(starts[1], y, ends[1], y, GRID)
        if percent not in (99, 90):  # their words would overlap
            pen.text(starts[1] - 8, y, f"{percent} %", anchor="rm")
    for places in (plot.left_ms, plot.right_ms):
        for ms, x in places.items():
            pen.line(x, BOTTOM, x, BOTTOM + 5, AXIS)
            pen.text(x, BOTTOM + 18, f"{ms:g}", anchor="mm")
    for start, end in zip(starts, ends, strict=True):
        pen.line(start, plot.top, start, BOTTOM, AXIS)
        pen.line(start, BOTTOM, end, BOTTOM, AXIS)
    pen.text((starts[0] + ends[0]) / 2, HEIGHT - 22, "ms: how many samples", anchor="mm")
    pen.text((starts[1] + ends[1]) / 2, HEIGHT - 22, "ms: per cent of samples that were quicker", anchor="mm")
    for curve in plot.curves:
        pen.path(curve.histogram, curve.color)
        pen.path(curve.cumulative, curve.color)
    return pen.png()


def _near_highest(measurement: Measurement) -> float:
    ordered = sorted(measurement.samples)
    return ordered[-(-99 * len(ordered) // 100) - 1]


def _bins(samples: Sequence[float], floor: float, ceiling: float) -> list[int]:
    """Samples of each of ``BINS`` equal bins; those beyond the axis are left out."""
    counts = [0] * BINS
    for ms in samples:
        if ms <= ceiling:
            counts[min(BINS - 1, int((ms - floor) * BINS / (ceiling - floor)))] += 1
    return counts
