"""Pictures that are no photos, each with what a careful person would say of it: pages, charts, plain grounds.

A captioner that has seen nothing but photos calls a receipt a stop sign. These pictures, drawn from a seed,
teach it better and check it: training draws them with ``held_out=False``, the check with ``held_out=True``,
whose seeds and pairs of colours training never sees. Layouts, fonts and phrases of pages are the same.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from benchmarks.non_photo_drawings import DRAWINGS
from benchmarks.non_photo_pages import PAGES
from benchmarks.non_photo_words import Drawing

__all__ = ["KINDS", "NonPhoto", "draw_non_photo"]

_KINDS: dict[str, Callable[[random.Random, bool], Drawing]] = {**DRAWINGS, **PAGES}
KINDS = tuple(_KINDS)

_GLUE = frozenset(
    "a an the of on in with and that is it there are this at from to by image picture drawing screen plain "
    "simple blank empty background view close up computer graphic".split()
)


@dataclass(frozen=True)
class NonPhoto:
    """A drawn picture: ``pixels`` uint8 RGB [H, W, 3], captions in lower case without a full stop.

    ``questions`` are (question, answer) pairs. ``allowed`` holds every word that a true caption may use.
    """

    kind: str
    pixels: NDArray[np.uint8]
    captions: tuple[str, ...]
    questions: tuple[tuple[str, str], ...]
    allowed: frozenset[str]


def draw_non_photo(kind: str, rng: random.Random, *, held_out: bool = False) -> NonPhoto:
    """One picture of a kind; the same state of ``rng`` gives the same pixels.

    Raises:
        KeyError: no such kind; :data:`KINDS` lists them.
        MissingExtraError: the packages of the fonts are not installed.
    """
    rng = random.Random(f"{'held out' if held_out else 'training'}:{kind}:{rng.getrandbits(64)}")
    drawing = _KINDS[kind](rng, held_out)
    pixels = _photographed(drawing.image, rng) if drawing.is_flat else np.asarray(drawing.image)
    questions = (*drawing.questions, *rng.sample(_ABSENT, 1))
    words = {word for caption in drawing.captions for word in caption.split()}
    return NonPhoto(kind, pixels, drawing.captions, questions, _GLUE | words | drawing.also)


_ABSENT = (
    ("is there a person in the picture", "no"),
    ("is there a man in the image", "no"),
    ("is there a dog in the picture", "no"),
    ("how many people are there", "0"),
    ("is this a photo", "no"),
)


def _photographed(image: Image.Image, rng: random.Random) -> NDArray[np.uint8]:
    """As it would reach us: a surround and a turn now and then, soft light, blur, JPEG."""
    if rng.random() < 0.3:
        width, height = image.size
        ground = tuple(rng.randint(30, 225) for _ in range(3))
        turned = image.convert("RGB").rotate(
            rng.uniform(-5, 5), Image.Resampling.BILINEAR, expand=True, fillcolor=ground
        )
        margin = rng.uniform(0.01, 0.12)
        framed = Image.new(
            "RGB",
            (round(turned.width + 2 * margin * width), round(turned.height + 2 * margin * height)),
            ground,
        )
        framed.paste(turned, (round(margin * width), round(margin * height)))
        image = framed
    if rng.random() < 0.25:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.0)))
    pixels = np.asarray(image.convert("RGB")).astype(np.float32)
    if rng.random() < 0.35:
        ramp = np.linspace(rng.uniform(0.72, 1.0), 1.0, pixels.shape[1]).astype(np.float32)
        pixels *= ramp[None, ::-1, None] if rng.random() < 0.5 else ramp[None, :, None]
    if rng.random() < 0.3:
        low, high = rng.uniform(0, 40), rng.uniform(200, 255)
        pixels = (low + pixels * (high - low) / 255).astype(np.float32)
    whole = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    if rng.random() < 0.4:
        buffer = io.BytesIO()
        whole.save(buffer, "JPEG", quality=rng.randint(40, 90))
        whole = Image.open(buffer)
    return np.asarray(whole.convert("RGB"))
