"""The documents and the sign of ``examples/images``: ``python -m benchmarks.sample_documents OUT_DIR``."""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from benchmarks.page_distortions import Distortion, distort
from benchmarks.page_fonts import load_font
from benchmarks.page_layouts import LAYOUTS
from mobile_multimodal.errors import MmllmError

__all__ = ["SAMPLES", "draw_sign", "main", "render_sample"]

# file → (page kind, seed, angle, shades of its palette); few shades keep a PNG small.
_PAGES = {
    "receipt.png": ("receipt", 21, 1.2, 12),
    "letter.png": ("letter", 8, -0.8, 10),
    "terminal.png": ("terminal", 5, 0.0, 24),
}
SAMPLES = (*_PAGES, "sign.jpg")
SIGN_TEXT = ("SPEED", "LIMIT", "35")


def draw_sign() -> Image.Image:
    """A speed limit sign by a country road, seen a little from the side; 900×1100 pixels."""
    rng = np.random.default_rng(35)
    width, height, horizon = 900, 1100, 760
    ramp = np.linspace(0, 1, horizon)[:, None, None]
    picture = np.empty((height, width, 3))
    picture[:horizon] = (96, 150, 214) * (1 - ramp) + np.array((214, 228, 240)) * ramp
    picture[horizon:] = (104, 132, 72)
    picture[horizon:] += rng.normal(0, 16, (height - horizon, width, 1))
    scene = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(scene)
    draw.polygon(((560, horizon), (640, horizon), (1000, height), (300, height)), fill=(92, 94, 98))
    draw.polygon(((598, horizon), (602, horizon), (660, height), (630, height)), fill=(228, 200, 80))
    draw.rectangle((322, 560, 346, 1040), fill=(120, 122, 124))
    plate = Image.new("RGBA", (460, 580), (0, 0, 0, 0))
    face = ImageDraw.Draw(plate)
    face.rounded_rectangle((0, 0, 459, 579), 34, fill=(246, 246, 242, 255))
    face.rounded_rectangle((14, 14, 445, 565), 26, outline=(24, 24, 24, 255), width=9)
    for word, top, size in zip(SIGN_TEXT, (52, 158, 268), (92, 92, 246), strict=True):
        font = load_font("roboto", size, bold=True)
        face.text((230 - font.getlength(word) / 2, top), word, font=font, fill=(20, 20, 20, 255))
    # Seen from the side: the far edge is shorter.
    back = _perspective(plate.size, ((96, 130), (566, 158), (566, 706), (96, 740)))
    seen = plate.transform((width, height), Image.Transform.PERSPECTIVE, back, Image.Resampling.BICUBIC)
    scene.paste(seen, mask=seen.getchannel("A"))
    scene = scene.filter(ImageFilter.GaussianBlur(0.8))
    pixels = np.asarray(scene, float) + rng.normal(0, 3, (height, width, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _perspective(size: tuple[int, int], corners: Sequence[tuple[float, float]]) -> list[float]:
    """Pillow's eight coefficients from ``corners``, clockwise from the top left, back to a rectangle."""
    width, height = size
    rectangle = ((0, 0), (width, 0), (width, height), (0, height))
    rows, wanted = [], []
    for (x, y), (u, v) in zip(corners, rectangle, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        wanted += [u, v]
    return [float(value) for value in np.linalg.solve(np.array(rows, float), np.array(wanted, float))]


def render_sample(name: str) -> tuple[Image.Image, str]:
    """One sample picture and its text, line by line; ``name`` is one of ``SAMPLES``."""
    if name == "sign.jpg":
        return draw_sign(), "\n".join(SIGN_TEXT)
    kind, seed, angle, shades = _PAGES[name]
    sheet = LAYOUTS[kind](random.Random(seed))
    scan = Distortion(
        angle, blur_sigma=0.4, noise_sigma=0, contrast=0.95, shade=0, shade_direction=0, jpeg_quality=90
    )
    picture = Image.fromarray(distort(sheet.image, scan, seed))
    picture = picture.quantize(shades, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    return picture, "\n".join(line.text for line in sheet.lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write every sample picture to a directory; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sample_documents", description=__doc__)
    parser.add_argument("directory", type=Path, metavar="OUT_DIR")
    directory = parser.parse_args(arguments).directory
    directory.mkdir(parents=True, exist_ok=True)
    try:
        for name in SAMPLES:
            picture, _ = render_sample(name)
            if name.endswith(".jpg"):
                picture.save(directory / name, quality=85)
            else:
                picture.save(directory / name, optimize=True)
            print(f"{directory / name}: {(directory / name).stat().st_size:,} bytes")
    except MmllmError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
