"""Drawn pictures without text: plain grounds, noise, patterns, shapes, codes; and with them the charts."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.non_photo_charts import CHARTS
from benchmarks.non_photo_words import COLORS, INKS, Asked, Drawing, a, canvas, canvas_size, shade, two_colors
from benchmarks.page_fonts import load_font
from benchmarks.page_sheet import Color

__all__ = ["DRAWINGS"]


def _plain(rng: random.Random, held_out: bool) -> Drawing:
    name = rng.choice(("white", "white", "black", *COLORS))
    return Drawing(
        Image.new("RGB", canvas_size(rng), shade(name, rng)),
        (f"a plain {name} image", f"a blank {name} picture", f"a plain {name} background"),
        (("what color is the image", name), ("what is in the picture", "nothing")),
        frozenset({"solid", "color", "gray", "wall"} if name == "grey" else {"solid", "color"}),
        is_flat=False,
    )


def _gradient(rng: random.Random, held_out: bool) -> Drawing:
    first, second = two_colors(rng, held_out)
    width, height = canvas_size(rng)
    ramp = np.linspace(0, 1, width)[None, :, None] * np.ones((height, 1, 1))
    if rng.random() < 0.5:
        ramp = np.linspace(0, 1, height)[:, None, None] * np.ones((1, width, 1))
    pixels = (1 - ramp) * np.array(shade(first, rng)) + ramp * np.array(shade(second, rng))
    return Drawing(
        Image.fromarray(pixels.astype(np.uint8)),
        (
            f"a gradient from {first} to {second}",
            f"a plain image fading from {first} to {second}",
            "a smooth color gradient",
        ),
        (("what is this", "gradient"), ("is there any text", "no")),
        frozenset({"colors", *COLORS}),  # the colours between are there too
        is_flat=False,
    )


def _noise(rng: random.Random, held_out: bool) -> Drawing:
    width, height = canvas_size(rng)
    cell = rng.choice((1, 1, 2, 4, 8))
    is_grey = rng.random() < 0.5
    source = np.random.default_rng(rng.getrandbits(32))
    shape = (height // cell, width // cell, 1 if is_grey else 3)
    low, high = rng.choice(((0, 256), (60, 200), (0, 128), (128, 256)))
    values = source.integers(low, high, shape, dtype=np.uint8)
    if rng.random() < 0.3:
        values = np.where(values > (low + high) / 2, np.uint8(255), np.uint8(0))
    image = Image.fromarray(np.broadcast_to(values, (*shape[:2], 3)).copy())
    image = image.resize((width, height), rng.choice((Image.Resampling.NEAREST, Image.Resampling.BILINEAR)))
    word = "grey" if is_grey else "colored"
    return Drawing(
        image,
        (f"a picture of random {word} noise", f"random {word} noise", f"an image of {word} static noise"),
        (("what is this", "noise"), ("is there any text", "no")),
        frozenset({"pixels", "pattern", "gray", "black", "white", "dots", "colorful", "noisy"}),
        is_flat=False,
    )


def _stripes(rng: random.Random, held_out: bool) -> Drawing:
    first, second = two_colors(rng, held_out)
    image, draw = canvas(rng, shade(first, rng))
    step, ink, upright = rng.randint(12, 50), shade(second, rng), rng.random() < 0.5
    for start in range(0, max(image.size), 2 * step):
        box = (start, 0, start + step, image.height) if upright else (0, start, image.width, start + step)
        draw.rectangle(box, fill=ink)
    return Drawing(
        image,
        (
            f"a pattern of {first} and {second} stripes",
            f"{first} and {second} stripes",
            f"a striped pattern in {second} and {first}",
        ),
        (("what pattern is this", "stripes"),),
        frozenset({"lines", "striped"}),
    )


def _checkerboard(rng: random.Random, held_out: bool) -> Drawing:
    first, second = two_colors(rng, held_out)
    image, draw = canvas(rng, shade(first, rng))
    step, ink = rng.randint(14, 60), shade(second, rng)
    for top in range(0, image.height, step):
        for left in range(((top // step) % 2) * step, image.width, 2 * step):
            draw.rectangle((left, top, left + step - 1, top + step - 1), fill=ink)
    return Drawing(
        image,
        (
            f"a checkerboard pattern in {first} and {second}",
            f"{a(first)} and {second} checkerboard",
            f"a pattern of {second} and {first} squares",
        ),
        (("what pattern is this", "checkerboard"),),
        frozenset({"checker", "checkered", "squares", "board"}),
    )


def _shape(draw: ImageDraw.ImageDraw, name: str, x: float, y: float, radius: float, ink: Color) -> None:
    if name == "circle":
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=ink)
    elif name == "square":
        draw.rectangle((x - radius, y - radius, x + radius, y + radius), fill=ink)
    elif name == "triangle":
        draw.polygon(((x, y - radius), (x + radius, y + radius), (x - radius, y + radius)), fill=ink)
    else:
        corners = [
            (
                x + radius * (1 if i % 2 == 0 else 0.42) * math.sin(i * math.pi / 5),
                y - radius * (1 if i % 2 == 0 else 0.42) * math.cos(i * math.pi / 5),
            )
            for i in range(10)
        ]
        draw.polygon(corners, fill=ink)


def _shapes(rng: random.Random, held_out: bool) -> Drawing:
    ground, ink = two_colors(rng, held_out)
    image, draw = canvas(rng, shade(ground, rng))
    width, height = image.size
    name = rng.choice(("circle", "square", "triangle", "star"))
    if rng.random() < 0.6:
        radius = min(width, height) * rng.uniform(0.15, 0.4)
        x, y = width * rng.uniform(0.42, 0.58), height * rng.uniform(0.42, 0.58)
        _shape(draw, name, x, y, radius, shade(ink, rng))
        captions = (
            f"{a(ink)} {name} on {a(ground)} background",
            f"{a(ink)} {name} on a plain {ground} background",
            f"a drawing of {a(ink)} {name}",
        )
        asked: Asked = (
            ("what shape is this", name),
            (f"what color is the {name}", ink),
            ("how many shapes", "one"),
        )
        return Drawing(
            image, captions, asked, frozenset({"shape", "dot", "ball"} if name == "circle" else {"shape"})
        )
    other = rng.choice([shape for shape in ("circle", "square", "triangle", "star") if shape != name])
    inks = [color for color in INKS if color not in (ground, ink)]
    second = ink if ground in ("grey", "brown", "pink") else rng.choice([ink, *inks[:4]])
    second = ink if {second, ground} in ({"red", "orange"}, {"red", "brown"}, {"red", "pink"}) else second
    radius = min(width / 2, height) * rng.uniform(0.25, 0.42)
    _shape(draw, name, width * 0.26, height * rng.uniform(0.4, 0.6), radius, shade(ink, rng))
    _shape(draw, other, width * 0.74, height * rng.uniform(0.4, 0.6), radius, shade(second, rng))
    captions = (
        f"{a(ink)} {name} and {a(second)} {other} on {a(ground)} background",
        f"{a(ink)} {name} and {a(second)} {other}",
        f"two shapes on {a(ground)} background",
    )
    asked = (("how many shapes are there", "two"), (f"what color is the {name}", ink))
    return Drawing(image, captions, asked, frozenset({"shape", "next"}))


def _barcode(rng: random.Random, held_out: bool) -> Drawing:
    image, draw = canvas(rng, shade("white", rng))
    x, margin = image.width * 0.1, image.height * rng.uniform(0.08, 0.3)
    while x < image.width * 0.9:
        wide = rng.choice((2, 2, 3, 4, 6))
        draw.rectangle((x, margin, x + wide - 1, image.height - margin), fill=(15, 15, 15))
        x += wide + rng.choice((2, 2, 3, 5))
    if rng.random() < 0.6:
        number = " ".join(str(rng.randint(0, 9)) for _ in range(12))
        font = load_font("arimo", round(image.width / 24))
        draw.text(
            (image.width / 2, image.height - margin / 2), number, font=font, fill=(15, 15, 15), anchor="mm"
        )
    captions = ("a barcode", "a black and white barcode", "a barcode on a white background")
    return Drawing(
        image, captions, (("what is this", "barcode"),), frozenset({"lines", "stripes", "code", "bar"})
    )


def _qr_code(rng: random.Random, held_out: bool) -> Drawing:
    side = rng.choice((21, 25, 29, 33))
    cells = np.array([[rng.random() < 0.5 for _ in range(side)] for _ in range(side)])
    finder = np.ones((7, 7), dtype=bool)
    finder[1:6, 1:6] = False
    finder[2:5, 2:5] = True
    for rows, columns in ((0, 0), (0, side - 8), (side - 8, 0)):
        cells[rows : rows + 8, columns : columns + 8] = False
    cells[:7, :7] = cells[:7, -7:] = cells[-7:, :7] = finder
    edge = rng.randint(1, 4)
    padded = np.pad(cells, edge)
    image = Image.fromarray(np.where(padded, np.uint8(15), np.uint8(248))).convert("RGB")
    length = rng.randint(200, 400)
    image = image.resize((length, length), Image.Resampling.NEAREST)
    captions = ("a qr code", "a black and white qr code", "a square qr code on a white background")
    asked = (("what is this", "qr code"), ("what color is the code", "black"))
    return Drawing(image, captions, asked, frozenset({"squares", "pattern", "barcode"}))


DRAWINGS: dict[str, Callable[[random.Random, bool], Drawing]] = {
    "plain": _plain,
    "gradient": _gradient,
    "noise": _noise,
    "stripes": _stripes,
    "checkerboard": _checkerboard,
    "shapes": _shapes,
    **CHARTS,
    "barcode": _barcode,
    "qr code": _qr_code,
}
