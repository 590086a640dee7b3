"""A picture of any size → the square that the encoder takes; normalisation happens inside its graph."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["RESAMPLE", "preprocess"]

RESAMPLE = "bilinear"
"""The name in ``preprocessor_config.json``; a bilinear filter over the source pixels of each target pixel."""


def preprocess(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Squash RGB pixels [H, W, 3] to [side, side, 3], as in training, where many photos came squashed.

    Large pictures are first averaged over whole blocks (Pillow's ``reducing_gap``), at little loss.
    """
    image = Image.fromarray(pixels)
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR, reducing_gap=3.0))
