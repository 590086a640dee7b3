"""Regions of text as plain text, a table, hOCR, or drawn into the picture."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mobile_multimodal.results import TextRegion

__all__ = ["draw_regions", "join_lines", "to_hocr", "to_text", "to_tsv"]

BOX_COLOR = (220, 30, 60)
TSV_COLUMNS = ("line", "left", "top", "width", "height", "confidence", "text")

# XML 1.0, section 2.2: characters that no document may hold, not even escaped.
_NOT_XML = {code: None for code in range(0x20) if code not in (0x09, 0x0A, 0x0D)}


def _bounds(region: TextRegion) -> tuple[int, int, int, int]:
    """Left, top, right, bottom in whole pixels, the region inside."""
    xs, ys = [x for x, _ in region.box], [y for _, y in region.box]
    return math.floor(min(xs)), math.floor(min(ys)), math.ceil(max(xs)), math.ceil(max(ys))


def _follows(before: TextRegion, after: TextRegion) -> bool:
    """Whether ``after`` goes on in the line of ``before``: to its right, along its slant."""
    (left, top), (right, right_top), _, (_, bottom) = before.box
    (next_left, next_top), _, _, (_, next_bottom) = after.box
    if next_left <= left or right <= left:
        return False
    slope = (right_top - top) / (right - left)
    expected = (top + bottom) / 2.0 + slope * (next_left - left)
    height = min(bottom - top, next_bottom - next_top)
    return abs((next_top + next_bottom) / 2.0 - expected) < 0.5 * height


def join_lines(regions: Sequence[TextRegion]) -> list[list[TextRegion]]:
    """Regions in reading order, grouped where they stand beside one another in one line."""
    lines: list[list[TextRegion]] = []
    for region in regions:
        if lines and _follows(lines[-1][-1], region):
            lines[-1].append(region)
        else:
            lines.append([region])
    return lines


def to_text(regions: Sequence[TextRegion]) -> str:
    """One line of text per line of the picture; what stands beside each other is joined by a space."""
    return "\n".join(" ".join(region.text for region in line) for line in join_lines(regions))


def to_tsv(regions: Sequence[TextRegion]) -> str:
    """A header and one tab-separated row per region; ``line`` counts the picture's lines from 1.

    Bounds are in pixels, ``confidence`` is 0..1. Tabs and line ends inside a text become spaces.
    """
    rows = ["\t".join(TSV_COLUMNS)]
    for number, line in enumerate(join_lines(regions), start=1):
        for region in line:
            left, top, right, bottom = _bounds(region)
            text = " ".join(region.text.split())
            cells = (number, left, top, right - left, bottom - top, f"{region.confidence:.4f}", text)
            rows.append("\t".join(map(str, cells)))
    return "\n".join(rows)


def _escape(text: str) -> str:
    return html.escape(text.translate(_NOT_XML), quote=True)


def to_hocr(regions: Sequence[TextRegion], size: tuple[int, int], source: str) -> str:
    """An hOCR 1.2 document, well-formed XHTML: one ``ocr_line`` per line, one ``ocrx_word`` per region.

    Args:
        regions: in reading order.
        size: width and height of the picture in pixels.
        source: what the picture is called; it stands in the page's title.
    """
    lines = []
    for number, line in enumerate(join_lines(regions), start=1):
        words = []
        for index, region in enumerate(line, start=1):
            bounds = " ".join(map(str, _bounds(region)))
            sure = round(100 * region.confidence)
            words.append(
                f'<span class="ocrx_word" id="word_1_{number}_{index}" '
                f'title="bbox {bounds}; x_wconf {sure}">{_escape(region.text)}</span>'
            )
        edges = np.array([_bounds(region) for region in line])
        bounds = " ".join(map(str, (*edges[:, :2].min(axis=0), *edges[:, 2:].max(axis=0))))
        lines.append(
            f'   <span class="ocr_line" id="line_1_{number}" title="bbox {bounds}">{" ".join(words)}</span>'
        )
    body = "\n".join(lines)
    name = _escape(source.replace('"', "'").replace(";", ","))
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN" \
"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" lang="en">
 <head>
  <title>{name}</title>
  <meta http-equiv="Content-Type" content="text/html; charset=utf-8" />
  <meta name="ocr-system" content="mmllm" />
  <meta name="ocr-capabilities" content="ocr_page ocr_line ocrx_word" />
 </head>
 <body>
  <div class="ocr_page" id="page_1" title="image &quot;{name}&quot;; bbox 0 0 {size[0]} {size[1]}; ppageno 0">
{body}
  </div>
 </body>
</html>"""


def draw_regions(pixels: NDArray[np.uint8], regions: Sequence[TextRegion]) -> NDArray[np.uint8]:
    """A copy of the picture uint8 RGB [H, W, 3] with every box outlined and its text above it."""
    picture = Image.fromarray(pixels)
    draw = ImageDraw.Draw(picture)
    for region in regions:
        height = math.dist(region.box[0], region.box[3])
        draw.polygon(region.box, outline=BOX_COLOR, width=max(1, round(height / 16)))
        font = ImageFont.load_default(size=max(10.0, 0.45 * height))
        left, top = region.box[0]
        bounds = draw.textbbox((0, 0), region.text, font=font)
        place = (
            max(0.0, min(left, picture.width - bounds[2])),
            max(0.0, top - bounds[3] - 1),
        )
        draw.rectangle(draw.textbbox(place, region.text, font=font), fill=(255, 255, 255))
        draw.text(place, region.text, fill=BOX_COLOR, font=font)
    return np.asarray(picture)
