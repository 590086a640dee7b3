"""Rendered pages: reproducible, legible, and with boxes that lie on their text."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import page_fonts
from benchmarks.page_distortions import Distortion, distort, draw_distortion, rotate_point
from benchmarks.page_fonts import MONO, SANS, SERIF, load_font
from benchmarks.page_layouts import LAYOUTS
from benchmarks.page_sheet import Sheet, wrap
from benchmarks.page_text import fill
from benchmarks.pages import PAGE_KINDS, Page, main, render_page, render_pages
from mobile_multimodal.errors import MissingExtraError, UsageError


@pytest.fixture(scope="module")
def pages() -> list[Page]:
    return render_pages(len(PAGE_KINDS), seed=3)


def test_the_same_seed_gives_the_same_pages(pages: list[Page]) -> None:
    again = render_pages(len(PAGE_KINDS), seed=3)
    for first, second in zip(pages, again, strict=True):
        assert first.text == second.text
        assert first.lines == second.lines
        assert np.array_equal(first.pixels, second.pixels)


def test_another_seed_or_number_gives_another_page(pages: list[Page]) -> None:
    other = render_page(pages[0].kind, seed=4)
    assert other.text != pages[0].text
    assert other.distortion != pages[0].distortion
    assert render_page("letter", 1).text != render_page("letter", 2).text


def test_sixty_pages_hold_twelve_of_each_kind_and_much_text() -> None:
    # The text alone: drawing it 60 times tells no more.
    sheets = [(kind, LAYOUTS[kind](random.Random(f"{kind}:{i}"))) for i in range(12) for kind in PAGE_KINDS]
    assert len(sheets) == 60
    characters = sum(len(line.text) for _, sheet in sheets for line in sheet.lines)
    assert 40_000 <= characters <= 65_000
    written = "".join(line.text for _, sheet in sheets for line in sheet.lines)
    assert set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") <= set(written)
    assert set("$%&()-,.:;/@#=+_|'\"!?<>[]{}*~") <= set(written)
    assert all(character.isascii() and character.isprintable() for character in written)


@pytest.mark.parametrize("kind", PAGE_KINDS)
@pytest.mark.parametrize("seed", range(6))
def test_no_line_leaves_its_sheet_or_covers_another(kind: str, seed: int) -> None:
    sheet = LAYOUTS[kind](random.Random(seed))
    assert sheet.lines
    for line in sheet.lines:
        assert 0 <= line.left < line.right <= sheet.width, line
        assert 0 <= line.top < line.bottom <= sheet.height, line
    for index, one in enumerate(sheet.lines):
        for other in sheet.lines[index + 1 :]:
            apart = one.right <= other.left or other.right <= one.left
            below = one.bottom <= other.top + 1 or other.bottom <= one.top + 1
            assert apart or below, (one, other)


def test_pages_have_the_size_of_scans_and_their_text(pages: list[Page]) -> None:
    assert [page.kind for page in pages] == list(PAGE_KINDS)
    for page in pages:
        height, width, channels = page.pixels.shape
        assert channels == 3
        assert page.pixels.dtype == np.uint8
        assert 600 <= width <= 1500
        assert 600 <= height <= 1800
        assert page.text == "\n".join(line.text for line in page.lines)
        for line in page.lines:
            assert line.text == line.text.strip()
            assert all(0 <= x <= width and 0 <= y <= height for x, y in line.box)


def test_boxes_lie_on_the_ink(pages: list[Page]) -> None:
    for page in pages:
        grey = page.pixels.mean(axis=2)
        for line in page.lines:
            xs, ys = [x for x, _ in line.box], [y for _, y in line.box]
            inside = grey[round(min(ys)) : round(max(ys)) + 1, round(min(xs)) : round(max(xs)) + 1]
            # text against its ground differs by far more than noise does
            assert np.percentile(inside, 98) - np.percentile(inside, 2) > 60, (page.kind, line)


def test_turning_moves_points_with_the_picture() -> None:
    sheet = Image.new("RGB", (300, 200), (255, 255, 255))
    sheet.paste((0, 0, 0), (40, 30, 50, 40))
    how = Distortion(3.0, 0.0, 0.0, 1.0, 0.0, 0.0, 90)
    pixels = distort(sheet, how, 0)
    x, y = rotate_point(45, 35, sheet.size, how.angle_degrees)
    assert pixels[round(y), round(x)].max() < 60
    unturned = distort(sheet, Distortion(0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 90), 0)
    assert unturned.shape == (200, 300, 3)
    assert unturned[35, 45].max() < 60
    assert unturned[150, 200].min() > 240


def test_distortions_stay_moderate() -> None:
    drawn = [draw_distortion(random.Random(seed)) for seed in range(200)]
    assert {abs(how.angle_degrees) <= 3 for how in drawn} == {True}
    assert min(how.angle_degrees for how in drawn) < -2
    assert max(how.angle_degrees for how in drawn) > 2
    assert all(40 <= how.jpeg_quality <= 90 for how in drawn)
    assert any(how.blur_sigma > 0.8 for how in drawn)
    assert any(how.contrast < 0.7 for how in drawn)
    with pytest.raises(UsageError):
        Distortion(9.0, 0.0, 0.0, 1.0, 0.0, 0.0, 90)


def test_every_font_tells_apart_what_readers_confuse() -> None:
    for family in (*SANS, *SERIF, *MONO):
        for bold in (False, True):
            font = load_font(family, 40, bold=bold)
            masks = {bytes(font.getmask(character)) for character in "O0"}
            assert len(masks) == 2
        assert bytes(load_font(family, 40).getmask("H")) != bytes(
            load_font(family, 40, bold=True).getmask("H")
        )


def test_a_missing_font_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_fonts, "find_spec", lambda name: None)
    page_fonts.load_font.cache_clear()
    with pytest.raises(MissingExtraError, match=r"fontpkg_lora .*mmllm\[bench\]"):
        page_fonts.load_font("lora", 17)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(UsageError, match="poster"):
        render_page("poster", 0)


def test_wrapping_keeps_every_word_and_the_width() -> None:
    font = load_font("arimo", 20)
    text = "Boil the water first, then add salt, pepper and half of the lemon juice."
    lines = wrap(text, font, 200)
    assert " ".join(lines) == text
    assert len(lines) > 2
    assert all(font.getlength(line) <= 200 for line in lines)
    assert wrap("", font, 200) == []


def test_blank_text_is_not_a_line() -> None:
    sheet = Sheet(200, 100, (255, 255, 255))
    font = load_font("plex-mono", 20)
    assert sheet.write("   ", 10, 10, font, (0, 0, 0)) == 10
    sheet.write("    return", 10, 10, font, (0, 0, 0))
    (line,) = sheet.lines
    assert line.text == "return"
    assert line.left > 10 + 3 * font.getlength(" ")


def test_slots_are_filled_and_other_braces_stay() -> None:
    filled = fill('{"net": {number}} {{.Names}} {date} {email}', random.Random(0))
    assert "{number}" not in filled
    assert filled.startswith('{"net": ')
    assert "{{.Names}}" in filled
    assert filled.endswith(".example")


def test_the_command_writes_pictures_and_their_text(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.pages", str(tmp_path / "out"), "--count", "2", "--seed", "5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["000-receipt.png", "000-receipt.txt", "001-letter.png", "001-letter.txt"]
    page = render_pages(2, seed=5)[1]
    assert (tmp_path / "out" / "001-letter.txt").read_text() == page.text + "\n"
    with Image.open(tmp_path / "out" / "001-letter.png") as picture:
        assert np.array_equal(np.asarray(picture), page.pixels)


def test_the_command_reports_missing_fonts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_fonts, "find_spec", lambda name: None)
    page_fonts.load_font.cache_clear()
    assert main([str(tmp_path), "--count", "1"]) == 3
