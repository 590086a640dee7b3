"""Regions as text, table, hOCR and drawing."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

from mobile_multimodal.ocr_formats import draw_regions, join_lines, to_hocr, to_text, to_tsv
from mobile_multimodal.results import TextRegion


def region(
    text: str, left: float, top: float, width: float, height: float = 20.0, drop: float = 0.0
) -> TextRegion:
    right, bottom = left + width, top + height
    box = ((left, top), (right, top + drop), (right, bottom + drop), (left, bottom))
    return TextRegion(text, box, 0.954)


REGIONS = [
    region("Milk & <bread>", 10.5, 10, 200),
    region("4.20", 300, 12, 50),
    region("Total", 10, 50, 80),
]


def test_text_has_one_line_per_line() -> None:
    assert to_text(REGIONS) == "Milk & <bread> 4.20\nTotal"
    assert to_text([]) == ""


def test_the_next_column_starts_a_new_line() -> None:
    assert len(join_lines([region("left", 0, 300, 100), region("right", 200, 20, 100)])) == 2


def test_a_slanted_line_stays_one() -> None:
    first, second = region("a", 0, 0, 400, drop=20), region("b", 600, 30, 100, drop=5)
    assert join_lines([first, second]) == [[first, second]]
    assert join_lines([first, region("c", 600, 0, 100)]) != [[first, region("c", 600, 0, 100)]]


def test_tsv() -> None:
    header, *rows = to_tsv([*REGIONS, region("tab\there\nand", 0, 90, 9)]).split("\n")
    assert header.split("\t") == ["line", "left", "top", "width", "height", "confidence", "text"]
    assert rows[0].split("\t") == ["1", "10", "10", "201", "20", "0.9540", "Milk & <bread>"]
    assert [row.split("\t")[0] for row in rows] == ["1", "1", "2", "3"]
    assert rows[3].split("\t")[-1] == "tab here and"


def test_hocr_is_well_formed() -> None:
    name = 'odd "name"; <&>.png'
    document = to_hocr([*REGIONS, region("bell\x07", 5, 90, 9)], (640, 480), name)
    root = ElementTree.fromstring(document)
    space = {"h": "http://www.w3.org/1999/xhtml"}
    page = root.find(".//h:div[@class='ocr_page']", space)
    assert page is not None
    assert "bbox 0 0 640 480" in page.attrib["title"]
    assert page.attrib["title"].count('"') == 2, "a quote in the name must not end the file name"
    lines = page.findall("h:span[@class='ocr_line']", space)
    words = page.findall(".//h:span[@class='ocrx_word']", space)
    assert lines[0].attrib["title"] == "bbox 10 10 350 32"
    assert words[0].attrib["title"] == "bbox 10 10 211 30; x_wconf 95"
    assert [word.text for word in words] == ["Milk & <bread>", "4.20", "Total", "bell"]
    assert len(lines) == 3
    assert len({each.attrib["id"] for each in (page, *lines, *words)}) == 8


def test_hocr_of_nothing() -> None:
    assert ElementTree.fromstring(to_hocr([], (1, 1), "a.png")) is not None


@pytest.mark.parametrize("size", [(1, 1), (60, 400)])
def test_drawing_leaves_the_picture_alone(size: tuple[int, int]) -> None:
    pixels = np.full((*size, 3), 255, np.uint8)
    drawn = draw_regions(pixels, REGIONS)
    assert drawn.shape == pixels.shape
    assert drawn.dtype == np.uint8
    assert (pixels == 255).all()
    if size == (60, 400):
        assert (drawn != pixels).any(axis=2).sum() > 500
    np.testing.assert_array_equal(draw_regions(pixels, []), pixels)
