"""What a camera or a scanner does to a page: rotation, uneven light, low contrast, blur, noise, JPEG."""

from __future__ import annotations

import io
import math
import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from mobile_multimodal.errors import UsageError

__all__ = ["Distortion", "distort", "draw_distortion", "rotate_point"]


@dataclass(frozen=True)
class Distortion:
    """How a page was damaged.

    ``angle_degrees`` turns counter-clockwise, within ±3; ``blur_sigma`` and ``noise_sigma`` are in
    pixels and in grey levels of 255; ``contrast`` 1 leaves black and white as they are; ``shade`` is
    how much darker the darkest edge is, 0..1; ``jpeg_quality`` 40..90.
    """

    angle_degrees: float
    blur_sigma: float
    noise_sigma: float
    contrast: float
    shade: float
    shade_direction: float
    jpeg_quality: int

    def __post_init__(self) -> None:
        if not (abs(self.angle_degrees) <= 3 and 0 < self.contrast <= 1 and 0 <= self.shade < 1):
            raise UsageError(f"no such distortion: {self}")


def draw_distortion(rng: random.Random) -> Distortion:
    """Moderate damage, each kind at its own strength: a person still reads every character."""
    return Distortion(
        angle_degrees=rng.uniform(-3, 3),
        blur_sigma=rng.choice((0.0, rng.uniform(0.4, 1.4))),
        noise_sigma=rng.uniform(0, 10),
        contrast=rng.choice((1.0, 1.0, rng.uniform(0.4, 0.8))),
        shade=rng.choice((0.0, rng.uniform(0.1, 0.45))),
        shade_direction=rng.uniform(0, 2 * math.pi),
        jpeg_quality=rng.randint(40, 90),
    )


def rotate_point(x: float, y: float, size: tuple[int, int], angle_degrees: float) -> tuple[float, float]:
    """Where a point of a page of ``size`` (width, height) lies after the page was turned and grown to fit."""
    width, height = size
    angle = math.radians(angle_degrees)
    new_width, new_height = _turned_size(size, angle_degrees)
    dx, dy = x - width / 2, y - height / 2
    return (
        dx * math.cos(angle) + dy * math.sin(angle) + new_width / 2,
        -dx * math.sin(angle) + dy * math.cos(angle) + new_height / 2,
    )


def _turned_size(size: tuple[int, int], angle_degrees: float) -> tuple[int, int]:
    width, height = size
    angle = math.radians(angle_degrees)
    cosine, sine = abs(math.cos(angle)), abs(math.sin(angle))
    return math.ceil(width * cosine + height * sine), math.ceil(width * sine + height * cosine)


def distort(page: Image.Image, how: Distortion, seed: int) -> NDArray[np.uint8]:
    """The damaged page as uint8 RGB [H, W, 3]; turned pages lie on a grey desk. ``seed`` draws the noise."""
    width, height = _turned_size(page.size, how.angle_degrees)
    angle = math.radians(how.angle_degrees)
    cosine, sine = math.cos(angle), math.sin(angle)
    # Pillow maps places of the result back to the page.
    back = (
        cosine, -sine, page.width / 2 - cosine * width / 2 + sine * height / 2,
        sine, cosine, page.height / 2 - sine * width / 2 - cosine * height / 2,
    )  # fmt: skip
    turned = page.transform(
        (width, height), Image.Transform.AFFINE, back, Image.Resampling.BICUBIC, fillcolor=(118, 116, 112)
    )
    if how.blur_sigma > 0:
        turned = turned.filter(ImageFilter.GaussianBlur(how.blur_sigma))
    pixels = np.asarray(turned, dtype=np.float32)
    pixels = 128 + (pixels - 128) * how.contrast
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    along = (xs / width - 0.5) * math.cos(how.shade_direction) + (ys / height - 0.5) * math.sin(
        how.shade_direction
    )
    pixels *= (1 - how.shade * np.clip(along + 0.5, 0, 1))[..., None]  # [H, W, 1]
    noise = np.random.default_rng(seed).normal(0, how.noise_sigma, pixels.shape)
    damaged = Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))
    stream = io.BytesIO()
    damaged.save(stream, "JPEG", quality=how.jpeg_quality)
    return np.asarray(Image.open(stream).convert("RGB"))
