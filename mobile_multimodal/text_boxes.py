"""Picture → rectangles around lines of text: scale, tile, binarize, fit, grow.

The detector gives a shrunken region per line (differentiable binarization, arXiv 1911.08947,
section 3.4); its rotated bounding rectangle grows by ``area * unclip_ratio / perimeter`` on each
side. On a rectangle that is exactly the polygon offset of the original, without its libraries.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from mobile_multimodal.backends import Backend
from mobile_multimodal.config import OcrConfig
from mobile_multimodal.results import Box

__all__ = ["TextBox", "detect_boxes", "fit_boxes", "plan_size", "probability_map"]

STRIDE = 32
MAX_BOXES = 2000
MIN_MAP_SIDE = 3.0
"""Rectangles thinner than this many pixels of the probability map are specks."""

SMALL_SIDE = 256
MAX_MARGIN = 32


@dataclass(frozen=True)
class TextBox:
    """A rotated rectangle in pixels of the picture; ``angle`` in radians, clockwise, in -π/4..π/4.

    ``width`` runs along the angle, so upright and slanted lines are wide, vertical lines tall.
    """

    center: tuple[float, float]
    width: float
    height: float
    angle: float
    score: float

    def corners(self) -> NDArray[np.float32]:
        """The corners [4, 2] clockwise from the top left."""
        right = np.array([math.cos(self.angle), math.sin(self.angle)]) * self.width / 2
        down = np.array([-math.sin(self.angle), math.cos(self.angle)]) * self.height / 2
        center = np.array(self.center)
        points = [center - right - down, center + right - down, center + right + down, center - right + down]
        return np.stack(points).astype(np.float32)

    def clipped_corners(self, size: tuple[int, int]) -> Box:
        """The corners within a picture of ``size`` (width, height), as a region's box."""
        limits = np.array(size, dtype=np.float32)
        points = np.clip(self.corners(), 0.0, limits)
        first, second, third, fourth = ((round(float(x), 1), round(float(y), 1)) for x, y in points)
        return first, second, third, fourth


def plan_size(width: int, height: int, config: OcrConfig) -> tuple[int, int]:
    """The size (width, height) in which the detector sees a picture: multiples of 32.

    Small pictures are enlarged until the shorter side has ``detector_min_side``, at most
    ``detector_max_enlargement`` times; large ones are shrunk until the longer side has
    ``detector_max_side``. A strip may be longer, as long as the shorter side stays at
    ``detector_min_side``: it is seen in tiles.
    """
    shorter, longer = min(width, height), max(width, height)
    scale = min(max(1.0, config.detector_min_side / shorter), config.detector_max_enlargement)
    if longer * scale > config.detector_max_side:
        shrunk = config.detector_max_side / longer
        strip = min(scale, config.detector_min_side / shorter, config.detector_max_strip / longer)
        scale = max(shrunk, strip) if longer > config.detector_tile_aspect * shorter else shrunk
    width_seen, height_seen = (max(STRIDE, round(side * scale / STRIDE) * STRIDE) for side in (width, height))
    return width_seen, height_seen


def _tiles(length: int, tile: int, overlap: int) -> Iterator[tuple[int, int, int, int]]:
    """Cuts of one axis: (start, stop) that is seen, and (keep start, keep stop) that counts."""
    if length <= tile:
        yield 0, length, 0, length
        return
    count = math.ceil((length - overlap) / (tile - overlap))
    starts = [round(i * (length - tile) / (count - 1) / STRIDE) * STRIDE for i in range(count)]
    edges = [0, *((b + a + tile) // 2 for a, b in itertools.pairwise(starts)), length]
    for start, keep, keep_stop in zip(starts, edges, edges[1:], strict=False):
        yield start, start + tile, keep, keep_stop


def probability_map(backend: Backend, pixels: NDArray[np.uint8], config: OcrConfig) -> NDArray[np.float32]:
    """Probability of text per pixel [H, W] of the picture scaled as :func:`plan_size` says."""
    height, width = pixels.shape[:2]
    width_seen, height_seen = plan_size(width, height, config)
    shrinks = width_seen * height_seen < width * height
    scaled = cv2.resize(
        pixels, (width_seen, height_seen), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
    tile = max(2, config.detector_max_side // STRIDE) * STRIDE
    overlap = tile // 8
    probability = np.empty((height_seen, width_seen), dtype=np.float32)
    for top, bottom, keep_top, keep_bottom in _tiles(height_seen, tile, overlap):
        for left, right, keep_left, keep_right in _tiles(width_seen, tile, overlap):
            view = np.ascontiguousarray(scaled[None, top:bottom, left:right])
            seen = backend.run("text_detector", {"pixel_values": view})["probability"][0]
            kept = seen[keep_top - top : keep_bottom - top, keep_left - left : keep_right - left]
            probability[keep_top:keep_bottom, keep_left:keep_right] = kept
    return probability


def _mean_inside(probability: NDArray[np.float32], box: TextBox) -> float:
    """Mean probability inside a rectangle of the map."""
    points = box.corners()
    height, width = probability.shape
    left, top = np.clip(np.floor(points.min(axis=0)).astype(int), 0, (width - 1, height - 1))
    right, bottom = np.clip(np.ceil(points.max(axis=0)).astype(int), 0, (width - 1, height - 1))
    mask = np.zeros((bottom - top + 1, right - left + 1), dtype=np.uint8)
    cv2.fillPoly(mask, [(points - (left, top)).astype(np.int32)], 1)
    return float(cv2.mean(probability[top : bottom + 1, left : right + 1], mask)[0])


def fit_boxes(probability: NDArray[np.float32], config: OcrConfig) -> list[TextBox]:
    """Rectangles in pixels of the map [H, W], grown to the full height of their lines."""
    binary = cv2.dilate((probability > config.binarize_threshold).astype(np.uint8), np.ones((2, 2), np.uint8))
    contours, _ = cv2.findContours(binary, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    boxes = []
    for contour in contours[:MAX_BOXES]:
        (x, y), (width, height), degrees = cv2.minAreaRect(contour)
        if min(width, height) < MIN_MAP_SIDE:
            continue
        turns = round(degrees / 90.0)
        if turns % 2:
            width, height = height, width
        box = TextBox((x, y), width, height, math.radians(degrees - 90.0 * turns), 0.0)
        score = _mean_inside(probability, box)
        if score < config.box_threshold:
            continue
        growth = width * height * config.unclip_ratio / (width + height)  # both sides together
        boxes.append(TextBox((x, y), width + growth, height + growth, box.angle, score))
    return boxes


def _rescale(box: TextBox, across: float, down: float) -> TextBox:
    """A box of the map in the picture; the map's two scales differ by its rounding to 32."""
    cos, sin = math.cos(box.angle), math.sin(box.angle)
    return TextBox(
        center=((box.center[0] + 0.5) * across - 0.5, (box.center[1] + 0.5) * down - 0.5),
        width=box.width * math.hypot(cos * across, sin * down),
        height=box.height * math.hypot(sin * across, cos * down),
        angle=math.atan2(sin * down, cos * across),
        score=box.score,
    )


def _margin(width: int, height: int) -> int:
    """Pixels to add around a small picture: the detector misses text that touches the border."""
    shorter = min(width, height)
    return 0 if shorter >= SMALL_SIDE else min(shorter // 2, MAX_MARGIN)


def detect_boxes(backend: Backend, pixels: NDArray[np.uint8], config: OcrConfig) -> list[TextBox]:
    """Rectangles around the lines of text of a picture uint8 RGB [H, W, 3], in no order."""
    margin = _margin(pixels.shape[1], pixels.shape[0])
    if margin:
        border = cv2.copyMakeBorder(pixels, margin, margin, margin, margin, cv2.BORDER_REPLICATE)
        pixels = np.asarray(border, dtype=np.uint8)
    probability = probability_map(backend, pixels, config)
    down, across = (have / seen for have, seen in zip(pixels.shape, probability.shape, strict=False))
    found = (_rescale(box, across, down) for box in fit_boxes(probability, config))
    return [replace(box, center=(box.center[0] - margin, box.center[1] - margin)) for box in found]
