"""Pages of text whose every character is known, rendered from a seed: the measure of OCR.

``python -m benchmarks.pages OUT_DIR`` writes them as PNG beside their text.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.page_distortions import Distortion, distort, draw_distortion, rotate_point
from benchmarks.page_layouts import LAYOUTS
from mobile_multimodal.errors import MmllmError, UsageError
from mobile_multimodal.results import Box

__all__ = ["PAGE_KINDS", "Page", "PageLine", "main", "render_page", "render_pages", "write_pages"]

PAGE_KINDS = tuple(LAYOUTS)


@dataclass(frozen=True)
class PageLine:
    """A piece of text; ``box`` holds its corners clockwise from the top left, in pixels of the page."""

    text: str
    box: Box


@dataclass(frozen=True)
class Page:
    """A rendered page: ``pixels`` uint8 RGB [H, W, 3], ``lines`` and ``text`` in reading order.

    The pieces of one row (the cells of a table, an item and its price) are lines of their own, left to right.
    """

    kind: str
    pixels: NDArray[np.uint8]
    lines: tuple[PageLine, ...]
    text: str
    distortion: Distortion


def render_page(kind: str, seed: int) -> Page:
    """One page of a kind; the same seed gives the same pixels.

    Raises:
        UsageError: an unknown kind.
        MissingExtraError: the packages of the fonts are not installed.
    """
    if kind not in LAYOUTS:
        raise UsageError(f"unknown page kind {kind!r}", remedy=f"one of {', '.join(LAYOUTS)}")
    rng = random.Random(f"{kind}:{seed}")
    sheet = LAYOUTS[kind](rng)
    how = draw_distortion(rng)
    size = sheet.image.size
    lines = []
    for line in sheet.lines:
        corners = (
            (line.left, line.top), (line.right, line.top), (line.right, line.bottom), (line.left, line.bottom)
        )  # fmt: skip
        a, b, c, d = (rotate_point(x, y, size, how.angle_degrees) for x, y in corners)
        lines.append(PageLine(line.text, (a, b, c, d)))
    pixels = distort(sheet.image, how, rng.getrandbits(32))
    return Page(kind, pixels, tuple(lines), "\n".join(line.text for line in lines), how)


def render_pages(count: int = 60, seed: int = 0) -> list[Page]:
    """``count`` pages, the kinds in turn, so that 60 pages hold 12 of each.

    Raises:
        MissingExtraError: the packages of the fonts are not installed.
    """
    return [_numbered_page(number, seed) for number in range(count)]


def _numbered_page(number: int, seed: int) -> Page:
    return render_page(PAGE_KINDS[number % len(PAGE_KINDS)], 100_000 * seed + number)


def write_pages(directory: Path, count: int, seed: int) -> list[Path]:
    """Write every page as ``NUMBER-KIND.png`` and its text as ``.txt``; returns the pictures."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for number in range(count):
        page = _numbered_page(number, seed)
        path = directory / f"{number:03d}-{page.kind}.png"
        Image.fromarray(page.pixels).save(path)
        path.with_suffix(".txt").write_text(page.text + "\n", encoding="utf-8")
        written.append(path)
    return written


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m benchmarks.pages OUT_DIR --count N --seed S``; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pages", description=__doc__)
    parser.add_argument("directory", type=Path, metavar="OUT_DIR")
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        written = write_pages(options.directory, options.count, options.seed)
    except MmllmError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"{len(written)} pages in {options.directory}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
