"""Which boxes on a page were found and read: overlap of quadrilaterals, reading order, matching."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from benchmarks.evaluation_data import TruthBox
from benchmarks.text_metrics import normalize_whitespace
from mobile_multimodal.results import Box, TextRegion

__all__ = [
    "count_found",
    "count_shared_words",
    "drop_illegible",
    "intersection_area",
    "page_text",
    "quad_iou",
]

Point = tuple[float, float]
MIN_IOU = 0.5
MAX_ILLEGIBLE_SHARE = 0.5


def _area(polygon: Sequence[Point]) -> float:
    """Signed area by the shoelace formula; positive for corners clockwise on the screen."""
    pairs = zip(polygon, [*polygon[1:], *polygon[:1]], strict=True)
    return 0.5 * sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in pairs)


def intersection_area(left: Sequence[Point], right: Sequence[Point]) -> float:
    """Common area of two convex polygons: one is clipped at each side of the other.

    Source: Sutherland and Hodgman, Reentrant polygon clipping, 1974.
    """
    clipper = list(right) if _area(right) > 0 else list(reversed(right))
    polygon = list(left)
    for (ax, ay), (bx, by) in zip(clipper, [*clipper[1:], clipper[0]], strict=True):
        sides = [(bx - ax) * (y - ay) - (by - ay) * (x - ax) for x, y in polygon]
        clipped: list[Point] = []
        for index, ((x, y), side) in enumerate(zip(polygon, sides, strict=True)):
            (px, py), before = polygon[index - 1], sides[index - 1]
            if (side >= 0) != (before >= 0):
                share = before / (before - side)
                clipped.append((px + share * (x - px), py + share * (y - py)))
            if side >= 0:
                clipped.append((x, y))
        polygon = clipped
        if not polygon:
            return 0.0
    return abs(_area(polygon))


def quad_iou(left: Box, right: Box) -> float:
    """Intersection over union of two convex quadrilaterals, 0..1."""
    common = intersection_area(left, right)
    union = abs(_area(left)) + abs(_area(right)) - common
    return common / union if union > 0 else 0.0


def page_text(boxes: Sequence[TruthBox]) -> str:
    """The legible text of a page in reading order: lines from top to bottom, each from left to right.

    Boxes share a line where their centres lie within half the smaller height of each other.
    """
    legible = [box for box in boxes if box.legible]
    lines: list[list[tuple[float, float, float, str]]] = []
    placed = sorted((_place(box) for box in legible), key=lambda place: place[1])
    for place in placed:
        _, middle, height, _ = place
        for line in lines[-3:]:
            _, other_middle, other_height, _ = line[-1]
            if abs(middle - other_middle) < 0.5 * min(height, other_height):
                line.append(place)
                break
        else:
            lines.append([place])
    return " ".join(text for line in lines for _, _, _, text in sorted(line))


def _place(box: TruthBox) -> tuple[float, float, float, str]:
    """Left edge, vertical centre, height and text."""
    xs, ys = zip(*box.box, strict=True)
    return min(xs), sum(ys) / 4.0, max(ys) - min(ys), box.text


def drop_illegible(regions: Sequence[TextRegion], boxes: Sequence[TruthBox]) -> list[TextRegion]:
    """The regions that do not lie mostly on illegible boxes: whatever was read there is not judged."""
    illegible = [box.box for box in boxes if not box.legible]
    return [
        region
        for region in regions
        if sum(intersection_area(region.box, box) for box in illegible)
        <= MAX_ILLEGIBLE_SHARE * abs(_area(region.box))
    ]


def count_found(regions: Sequence[TextRegion], boxes: Sequence[TruthBox]) -> tuple[int, int]:
    """Legible boxes that a region covers (IoU ≥ 0.5) with the same text in any case, and all legible boxes.

    Some data sets box words, others lines. A region of several words is offered both whole and as
    its words, each with its share of the box by characters; a word is used for one box only.
    """
    legible = [box for box in boxes if box.legible]
    pairs = []
    for number, region in enumerate(regions):
        for words, text, box in _candidates(region):
            for truth, wanted in enumerate(legible):
                if _same_text(text, wanted.text):
                    overlap = quad_iou(box, wanted.box)
                    if overlap >= MIN_IOU:
                        pairs.append((overlap, truth, {(number, word) for word in words}))
    found: set[int] = set()
    used: set[tuple[int, int]] = set()
    for _, truth, atoms in sorted(pairs, key=lambda pair: -pair[0]):
        if truth not in found and not atoms & used:
            found.add(truth)
            used |= atoms
    return len(found), len(legible)


def _same_text(left: str, right: str) -> bool:
    return normalize_whitespace(left).casefold() == normalize_whitespace(right).casefold()


def _candidates(region: TextRegion) -> list[tuple[range, str, Box]]:
    """The region whole and, if it has several, each of its words: word numbers, text, box."""
    text = normalize_whitespace(region.text)
    words = text.split(" ")
    candidates = [(range(len(words)), text, region.box)]
    if len(words) > 1:
        start = 0
        for number, word in enumerate(words):
            box = _slice(region.box, start / len(text), (start + len(word)) / len(text))
            candidates.append((range(number, number + 1), word, box))
            start += len(word) + 1
    return candidates


def _slice(box: Box, start: float, end: float) -> Box:
    """The part of a box between two shares, 0..1, of its width."""
    top_left, top_right, bottom_right, bottom_left = box

    def between(left: Point, right: Point, share: float) -> Point:
        return left[0] + share * (right[0] - left[0]), left[1] + share * (right[1] - left[1])

    return (
        between(top_left, top_right, start),
        between(top_left, top_right, end),
        between(bottom_left, bottom_right, end),
        between(bottom_left, bottom_right, start),
    )


def count_shared_words(read: str, truth: str) -> tuple[int, int]:
    """Words of the truth that were read anywhere on the page, in any case, and all words of the truth."""
    wanted = Counter(truth.casefold().split())
    return (wanted & Counter(read.casefold().split())).total(), wanted.total()
