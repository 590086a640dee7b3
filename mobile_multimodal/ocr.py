"""Read the text of a picture: detect lines, recognize them, bring them into reading order."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from mobile_multimodal.backends import Backend
from mobile_multimodal.config import OcrConfig
from mobile_multimodal.line_reader import read_boxes
from mobile_multimodal.reading_order import reading_order
from mobile_multimodal.results import TextRegion
from mobile_multimodal.text_boxes import detect_boxes

__all__ = ["read_text"]


def read_text(
    backend: Backend, pixels: NDArray[np.uint8], config: OcrConfig, *, max_lines: int | None = None
) -> tuple[list[TextRegion], dict[str, float]]:
    """The lines of text of a picture in reading order, and the milliseconds of each stage.

    Args:
        backend: runs ``text_detector`` and ``text_recognizer``.
        pixels: uint8 RGB [H, W, 3], any size.
        config: thresholds and sizes; lines less sure than ``min_confidence`` are left out.
        max_lines: read no more than the first so many detected pieces; the others cost nothing.

    Returns:
        Regions whose boxes are in pixels of the picture; timings ``detect`` and ``recognize``.
    """
    started = time.perf_counter()
    boxes = detect_boxes(backend, pixels, config)
    if max_lines is not None and len(boxes) > max_lines:
        boxes = [boxes[index] for row in reading_order(boxes) for index in row][:max_lines]
    detected = time.perf_counter()
    lines = read_boxes(backend, pixels, boxes, config)
    size = (pixels.shape[1], pixels.shape[0])
    kept = [
        index
        for index, line in enumerate(lines)
        if line.text.strip() and line.confidence >= config.min_confidence
    ]
    regions = [
        TextRegion(
            lines[kept[i]].text.strip(), boxes[kept[i]].clipped_corners(size), lines[kept[i]].confidence
        )
        for row in reading_order([boxes[index] for index in kept])
        for i in row
    ]
    recognized = time.perf_counter()
    return regions, {
        "detect": 1000.0 * (detected - started),
        "recognize": 1000.0 * (recognized - detected),
    }
