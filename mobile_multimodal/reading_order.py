"""Rectangles in any order → reading order: columns of prose left to right, rows top to bottom.

A receipt and a two-column article both have a gap down the middle, but the receipt is read across
it. What tells them apart is that a column of prose holds several long lines.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mobile_multimodal.text_boxes import TextBox

__all__ = ["median_angle", "reading_order"]

_Extent = tuple[float, float]

SAME_ROW = 0.5
"""Centres closer than this share of the smaller height stand in one row."""

PROSE_LINES = 4
"""A column of prose has at least this many lines ..."""

PROSE_ASPECT = 6.0
"""... whose median width is at least this many heights ..."""

PROSE_FILL = 0.6
"""... and this share of the column's width."""


def median_angle(boxes: Sequence[TextBox]) -> float:
    """The slant of a page in radians: the median over its lines, long ones counting more."""
    wide = [box for box in boxes if box.width >= 2.0 * box.height]
    if not wide:
        return 0.0
    angles = np.array([box.angle for box in wide])
    order = np.argsort(angles)
    weight = np.cumsum(np.array([box.width for box in wide])[order])
    return float(angles[order][np.searchsorted(weight, weight[-1] / 2.0)])


def _upright_spans(boxes: Sequence[TextBox]) -> NDArray[np.float64]:
    """Extents (left, top, right, bottom) [N, 4] after the page's slant is turned back."""
    angle = median_angle(boxes)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    spans = np.empty((len(boxes), 4))
    for row, box in enumerate(boxes):
        points = box.corners().astype(np.float64) @ turn.T
        spans[row] = (*points.min(axis=0), *points.max(axis=0))
    return spans


def _rows(spans: NDArray[np.float64], members: Sequence[int]) -> list[list[int]]:
    """Members grouped into rows from the top, each row from the left."""
    middle = (spans[:, 1] + spans[:, 3]) / 2.0
    height = spans[:, 3] - spans[:, 1]
    rows: list[list[int]] = []
    for index in sorted(members, key=lambda i: (middle[i], spans[i, 0])):
        row = rows[-1] if rows else []
        if row:
            row_middle = float(np.mean(middle[row]))
            row_height = float(np.median(height[row]))
            if abs(middle[index] - row_middle) < SAME_ROW * min(height[index], row_height):
                row.append(index)
                continue
        rows.append([index])
    return [sorted(row, key=lambda i: spans[i, 0]) for row in rows]


def _is_prose(spans: NDArray[np.float64], members: Sequence[int]) -> bool:
    """Whether these lines look like one column of running text."""
    if len(members) < PROSE_LINES:
        return False
    chosen = spans[list(members)]
    widths, heights = chosen[:, 2] - chosen[:, 0], chosen[:, 3] - chosen[:, 1]
    column = chosen[:, 2].max() - chosen[:, 0].min()
    median = float(np.median(widths))
    return bool(median >= PROSE_ASPECT * np.median(heights) and median >= PROSE_FILL * column)


def _widened(columns: list[_Extent], left: float, right: float, gap: float) -> list[_Extent]:
    """Extents from the left, with one more: those that come closer to it than ``gap`` become one."""
    apart = [each for each in columns if each[0] - right >= gap or left - each[1] >= gap]
    touched = [each for each in columns if each not in apart]
    joined = (min([left, *(each[0] for each in touched)]), max([right, *(each[1] for each in touched)]))
    return sorted([*apart, joined])


def _prose_block(spans: NDArray[np.float64], rows: Sequence[list[int]]) -> tuple[int, list[list[int]]] | None:
    """How many rows from the first on stand in columns of prose, and these columns.

    The block is as long as gaps at least a line high run through it from top to bottom.
    """
    gap = float(np.median([spans[index, 3] - spans[index, 1] for row in rows for index in row]))
    found: list[_Extent] = []
    columns: list[_Extent] = []
    length = 0
    for count, row in enumerate(rows, start=1):
        for index in row:
            columns = _widened(columns, spans[index, 0], spans[index, 2], gap)
        if len(columns) > 1:
            found, length = columns, count
        elif length or count == PROSE_LINES:
            break
    members = [index for row in rows[:length] for index in row]
    texts = [[i for i in members if left <= spans[i, 0] <= right] for left, right in found]
    if len(texts) > 1 and all(_is_prose(spans, text) for text in texts):
        return length, texts
    return None


def _ordered(spans: NDArray[np.float64], members: Sequence[int]) -> list[list[int]]:
    """Rows of members in reading order, columns after one another."""
    rows = _rows(spans, members)
    result: list[list[int]] = []
    start = 0
    while start < len(rows):
        block = _prose_block(spans, rows[start:])
        if block is None:
            result.append(rows[start])
            start += 1
            continue
        count, columns = block
        for column in columns:
            result += _ordered(spans, column)
        start += count
    return result


def reading_order(boxes: Sequence[TextBox]) -> list[list[int]]:
    """Indices of the boxes grouped into rows, in the order in which a person reads them."""
    if not boxes:
        return []
    return _ordered(_upright_spans(boxes), range(len(boxes)))
