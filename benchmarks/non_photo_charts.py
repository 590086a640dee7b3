"""Drawn charts: bars, lines, pies."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.non_photo_words import INKS, NUMBERS, Drawing, canvas, shade
from benchmarks.page_fonts import SANS, load_font
from benchmarks.page_sheet import Color

__all__ = ["CHARTS"]


def _axes(rng: random.Random) -> tuple[Image.Image, ImageDraw.ImageDraw, tuple[int, int, int, int], Color]:
    is_dark = rng.random() < 0.2
    paper, ink = (shade("black", rng), (220, 220, 220)) if is_dark else (shade("white", rng), (40, 40, 40))
    image, draw = canvas(rng, paper)
    left, top = round(image.width * rng.uniform(0.08, 0.16)), round(image.height * rng.uniform(0.08, 0.2))
    right, bottom = round(image.width * 0.94), round(image.height * rng.uniform(0.82, 0.92))
    if rng.random() < 0.6:
        for part in range(1, 5):
            y = bottom - (bottom - top) * part / 5
            draw.line((left, y, right, y), fill=(150, 150, 150), width=1)
    draw.line((left, top, left, bottom), fill=ink, width=2)
    draw.line((left, bottom, right, bottom), fill=ink, width=2)
    if rng.random() < 0.6:
        font = load_font(rng.choice(SANS), rng.randint(9, 13))
        unit = rng.choice((5, 10, 20))
        for part in range(6):
            y = bottom - (bottom - top) * part / 5
            draw.text((left - 4, y), str(part * unit), font=font, fill=ink, anchor="rm")
        draw.text((image.width / 2, top / 2), rng.choice(_TITLES), font=font, fill=ink, anchor="mm")
    return image, draw, (left, top, right, bottom), ink


_TITLES = ("Sales", "Visitors per month", "Results", "Growth", "Rainfall", "Cost by year", "Speed", "Share")
_CHART_WORDS = frozenset(
    {"graph", "data", "numbers", "colored", "diagram", "white", "black", "lines", "line"}
)


def _bar_chart(rng: random.Random, held_out: bool) -> Drawing:
    image, draw, (left, top, right, bottom), _ = _axes(rng)
    bars = rng.randint(2, 8)
    ink = rng.choice(INKS[:7])
    many = rng.random() < 0.3
    step = (right - left) / bars
    for bar in range(bars):
        height = (bottom - top) * rng.uniform(0.15, 0.97)
        color = shade(rng.choice(INKS[:6]) if many else ink, rng)
        x = left + step * (bar + 0.18)
        draw.rectangle((x, bottom - height, x + step * 0.64, bottom), fill=color)
    named = f"a bar chart with {NUMBERS[bars]} bars"
    captions = ("a bar chart", named, "a simple bar chart" if many else f"a bar chart with {ink} bars")
    asked = (("what kind of chart is this", "bar chart"), ("how many bars are there", NUMBERS[bars]))
    colors = frozenset(INKS) if many else frozenset({ink})
    return Drawing(image, captions, asked, _CHART_WORDS | colors | {"colorful"})


def _line_chart(rng: random.Random, held_out: bool) -> Drawing:
    image, draw, (left, top, right, bottom), _ = _axes(rng)
    lines, points = rng.choice((1, 1, 2, 3)), rng.randint(5, 14)
    inks = rng.sample(INKS[:6], lines)
    for ink in inks:
        level, trend = rng.uniform(0.2, 0.8), rng.uniform(-0.05, 0.05)
        course = []
        for point in range(points):
            level = min(0.97, max(0.03, level + trend + rng.gauss(0, 0.09)))
            course.append((left + (right - left) * point / (points - 1), bottom - (bottom - top) * level))
        draw.line(course, fill=shade(ink, rng), width=rng.randint(2, 4), joint="curve")
    counted = "a line chart with one line" if lines == 1 else f"a line chart with {NUMBERS[lines]} lines"
    captions = ("a line chart", "a line graph", counted)
    asked = (("what kind of chart is this", "line chart"), ("how many lines are there", NUMBERS[lines]))
    return Drawing(image, captions, asked, _CHART_WORDS | frozenset(inks) | {"curve", "curves"})


def _pie_chart(rng: random.Random, held_out: bool) -> Drawing:
    image, draw = canvas(rng, shade(rng.choice(("white", "white", "grey", "black")), rng))
    slices = rng.randint(2, 6)
    inks = rng.sample((*INKS[:6], "pink", "brown"), slices)
    shares = np.array([rng.uniform(0.4, 2.0) for _ in inks])
    ends = np.cumsum(shares / shares.sum() * 360) + rng.uniform(0, 360)
    radius = min(image.size) * rng.uniform(0.3, 0.46)
    x, y = image.width / 2, image.height / 2
    box = (x - radius, y - radius, x + radius, y + radius)
    for index, ink in enumerate(inks):
        draw.pieslice(
            box, float(ends[index - 1]) - (360 if index == 0 else 0), float(ends[index]), fill=shade(ink, rng)
        )
    if rng.random() < 0.3:
        hole = radius * 0.5
        draw.ellipse((x - hole, y - hole, x + hole, y + hole), fill=image.getpixel((1, 1)))
    captions = ("a pie chart", f"a pie chart with {NUMBERS[slices]} slices", "a pie chart in several colors")
    asked = (("what kind of chart is this", "pie chart"), ("how many slices are there", NUMBERS[slices]))
    return Drawing(image, captions, asked, _CHART_WORDS | frozenset(inks) | {"circle", "colorful"})


CHARTS: dict[str, Callable[[random.Random, bool], Drawing]] = {
    "bar chart": _bar_chart,
    "line chart": _line_chart,
    "pie chart": _pie_chart,
}
