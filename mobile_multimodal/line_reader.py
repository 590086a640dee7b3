"""Rectangles of a picture → their text: cut out, bring to one height, recognize, decode.

Lines are padded to a few fixed widths and their batches bounded in pixels, so that a long run
sees few input shapes and its memory stays flat.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

import cv2
import numpy as np
from numpy.typing import NDArray

from mobile_multimodal.backends import Array, Backend
from mobile_multimodal.config import OcrConfig
from mobile_multimodal.ctc import DecodedLine, decode
from mobile_multimodal.text_boxes import TextBox

__all__ = ["cut_line", "padded_width", "read_boxes", "read_lines", "split_line"]

TALL = 1.5
"""A rectangle this many times higher than wide may hold a line that runs up or down ..."""

ONE_CHARACTER = 4.0
"""... and one higher than this many widths holds no single upright character."""

PADDING = 127
"""Grey behind the end of a line: zero after normalisation, as the recognizer was trained."""

WIDTH_STEP = 32
WIDTH_GROWTH = 1.15

WORD_GAP = 0.25
"""Empty columns wider than this share of the height separate words."""


def cut_line(pixels: NDArray[np.uint8], box: TextBox, height: int) -> NDArray[np.uint8]:
    """The rectangle turned upright, ``height`` pixels high [height, width, 3]."""
    width = max(1, math.ceil(height * box.width / max(box.height, 1.0)))
    # Larger lines are first cut at their own size: a warp that shrinks skips pixels.
    shrink = max(1.0, box.height / height)
    cut_width, cut_height = max(1, round(width * shrink)), max(1, round(height * shrink))
    top_left, top_right, _, bottom_left = box.corners()
    to_picture = np.stack(
        [(top_right - top_left) / cut_width, (bottom_left - top_left) / cut_height, top_left], axis=1
    )
    to_picture[:, 2] += (to_picture[:, 0] + to_picture[:, 1] - 1.0) / 2.0  # pixel centres, not corners
    cut = cv2.warpAffine(
        pixels,
        to_picture,
        (cut_width, cut_height),
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    if (cut_width, cut_height) != (width, height):
        cut = cv2.resize(cut, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(cut, dtype=np.uint8)


def split_line(line: NDArray[np.uint8], max_width: int) -> tuple[list[NDArray[np.uint8]], list[str]]:
    """A picture of a line cut into pieces of at most ``max_width``, and what joins their texts.

    Cuts are where the columns vary least, so between characters; the joint is a space where the
    cut stands in a gap as wide as one between words, and nothing elsewhere.
    """
    pieces, joints = [], []
    gap = max(1, round(WORD_GAP * line.shape[0]))
    while line.shape[1] > max_width:
        window = slice(max_width // 2, max_width)
        ink = line[:, window].astype(np.float32).std(axis=(0, 2))
        spread = np.convolve(ink, np.ones(gap) / gap, mode="same")
        cut = max_width // 2 + int(spread.argmin())
        joints.append(" " if spread.min() < 0.1 * max(float(ink.max()), 1.0) else "")
        pieces.append(line[:, :cut])
        line = line[:, cut:]
    return [*pieces, line], joints


def padded_width(width: int, config: OcrConfig) -> int:
    """The smallest of a few widths, each about 15 % above the one before, that holds a line."""
    padded = config.recognizer_min_width
    while padded < width:
        padded = math.ceil(padded * WIDTH_GROWTH / WIDTH_STEP) * WIDTH_STEP
    return padded


def _batches(widths: Sequence[int], config: OcrConfig) -> list[list[int]]:
    """Indices of lines of one width each, at most ``recognizer_batch_width`` pixels side by side."""
    batches = []
    order = sorted(range(len(widths)), key=widths.__getitem__)
    for width, members in groupby(order, widths.__getitem__):
        same = list(members)
        size = max(1, config.recognizer_batch_width // width)
        batches += [same[start : start + size] for start in range(0, len(same), size)]
    return batches


def _decode(probability: Array, config: OcrConfig) -> DecodedLine:
    scores = np.asarray(probability, dtype=np.float32)
    return decode(scores, config.characters, space_threshold=config.space_threshold)


def _join(parts: Sequence[DecodedLine], joints: Sequence[str]) -> DecodedLine:
    """One line from the readings of its pieces; its confidence is weighted by their lengths."""
    text = parts[0].text
    for joint, part in zip(joints, parts[1:], strict=True):
        text += joint + part.text
    length = sum(len(part.text) for part in parts)
    total = sum(len(part.text) * part.confidence for part in parts)
    return DecodedLine(text, total / length if length else 0.0)


def read_lines(backend: Backend, lines: Sequence[NDArray[np.uint8]], config: OcrConfig) -> list[DecodedLine]:
    """The text of pictures of lines, each uint8 RGB [recognizer_height, any width, 3], in their order."""
    splits = [split_line(line, config.recognizer_max_width) for line in lines]
    pieces = [piece for parts, _ in splits for piece in parts]
    decoded = [DecodedLine("", 0.0)] * len(pieces)
    widths = [padded_width(piece.shape[1], config) for piece in pieces]
    for batch in _batches(widths, config):
        shape = (len(batch), config.recognizer_height, widths[batch[0]], 3)
        pixels = np.full(shape, PADDING, dtype=np.uint8)
        for row, index in enumerate(batch):
            pixels[row, :, : pieces[index].shape[1]] = pieces[index]
        probability = backend.run("text_recognizer", {"pixel_values": pixels})["probability"]
        for row, index in enumerate(batch):
            decoded[index] = _decode(probability[row], config)
    readings, start = [], 0
    for parts, joints in splits:
        readings.append(_join(decoded[start : start + len(parts)], joints))
        start += len(parts)
    return readings


def _ways_to_read(box: TextBox) -> list[TextBox]:
    """The rectangle as it stands, and turned to either side where its text may run up or down."""
    if box.height < TALL * box.width:
        return [box]
    turned = [
        replace(box, width=box.height, height=box.width, angle=box.angle + turn)
        for turn in (-math.pi / 2.0, math.pi / 2.0)
    ]
    return [box, *turned] if box.height < ONE_CHARACTER * box.width else turned


def read_boxes(
    backend: Backend, pixels: NDArray[np.uint8], boxes: Sequence[TextBox], config: OcrConfig
) -> list[DecodedLine]:
    """The text in each rectangle of a picture uint8 RGB [H, W, 3].

    A tall rectangle may hold one upright character or a line that runs up or down: it is read
    every way, and the reading of which the recognizer is surest stands.
    """
    ways = [(index, way) for index, box in enumerate(boxes) for way in _ways_to_read(box)]
    cuts = [cut_line(pixels, way, config.recognizer_height) for _, way in ways]
    best = [DecodedLine("", 0.0)] * len(boxes)
    for (index, _), reading in zip(ways, read_lines(backend, cuts, config), strict=True):
        if reading.confidence > best[index].confidence:
            best[index] = reading
    return best
