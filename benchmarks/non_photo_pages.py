"""Drawn pictures of text: letters, receipts, tables, forms, slides, web pages, terminals."""

from __future__ import annotations

import random
from collections.abc import Callable

from PIL import Image

from benchmarks import page_text as text
from benchmarks.non_photo_words import Drawing, shade
from benchmarks.page_fonts import SANS, SERIF, load_font
from benchmarks.page_layouts import LAYOUTS
from benchmarks.page_sheet import BLACK, Color, Sheet, wrap

__all__ = ["PAGES"]

_TEXT_WORDS = frozenset(
    {"text", "page", "document", "paper", "printed", "words", "writing", "begins", "sheet"}
)


def _half(sheet: Sheet) -> Image.Image:
    """Pages are drawn for reading, which takes twice the pixels that a look at them takes."""
    return sheet.image.reduce(2)


def _scanned(slip: Image.Image, rng: random.Random) -> Image.Image:
    """A slip of paper as a flatbed scanner sees it: small, on an empty page."""
    share = rng.uniform(0.3, 0.7)  # of the page's height
    height = round(slip.height / share)
    width = max(round(height / rng.uniform(1.2, 1.5)), slip.width)
    page = Image.new("RGB", (width, height), shade(rng.choice(("white", "white", "grey")), rng))
    left, top = rng.randint(0, width - slip.width), rng.randint(0, round((height - slip.height) * 0.6))
    page.paste(slip, (left, top))
    return page.resize((round(width * 720 / height), 720))


def _captions(*things: str) -> tuple[str, ...]:
    return tuple(f"{thing} that begins with" for thing in things)


def _letter(rng: random.Random, held_out: bool) -> Drawing:
    image = _half(LAYOUTS["letter"](rng))
    captions = _captions("a page of text", "a printed page", "a letter")
    asked = (("what is this", "page"), ("is there any text", "yes"), ("what color is the paper", "white"))
    return Drawing(image, captions, asked, _TEXT_WORDS | {"letter"})


def _receipt(rng: random.Random, held_out: bool) -> Drawing:
    image = _half(LAYOUTS["receipt"](rng))
    if rng.random() < 0.4:
        image = _scanned(image, rng)
    captions = _captions("a receipt", "a printed receipt", "a paper receipt")
    asked = (("what is this", "receipt"), ("is there any text", "yes"))
    return Drawing(image, captions, asked, _TEXT_WORDS | {"receipt", "bill"})


def _table(rng: random.Random, held_out: bool) -> Drawing:
    image = _half(LAYOUTS["table"](rng))
    captions = _captions("a table of numbers", "a page with a table", "a printed table")
    asked = (("what is this", "table"), ("is there any text", "yes"))
    return Drawing(image, captions, asked, _TEXT_WORDS | {"table", "numbers", "rows", "columns", "list"})


def _terminal(rng: random.Random, held_out: bool) -> Drawing:
    image = _half(LAYOUTS["terminal"](rng))
    captions = _captions("a terminal window", "a screenshot of a terminal", "a computer terminal with text")
    asked = (("what is this", "terminal"), ("is there any text", "yes"))
    return Drawing(
        image, captions, asked, _TEXT_WORDS | {"terminal", "window", "screenshot", "code", "lines"}
    )


def _web_page(rng: random.Random, held_out: bool) -> Drawing:
    image = _half(LAYOUTS["web"](rng))
    captions = _captions("a screenshot of a web page", "a web page", "a web page with text")
    asked = (("what is this", "web page"), ("is there any text", "yes"))
    return Drawing(image, captions, asked, _TEXT_WORDS | {"web", "website", "site", "screenshot", "article"})


def _form(rng: random.Random, held_out: bool) -> Drawing:
    sheet = Sheet(rng.randint(360, 480), rng.randint(420, 600), shade("white", rng))
    family = rng.choice((*SANS, *SERIF))
    font, title = load_font(family, rng.randint(13, 17)), load_font(family, rng.randint(20, 26), bold=True)
    sheet.write(rng.choice(_FORMS), 24, 20, title, BLACK)
    y = 70.0
    fields = rng.sample(_FIELDS, rng.randint(5, 9))
    style = rng.choice(("box", "line"))
    for field in fields:
        if y > sheet.height - 50:
            break
        sheet.write(field, 24, y, font, BLACK)
        left, right = sheet.width * 0.42, sheet.width - 24
        if style == "box":
            sheet.draw.rectangle((left, y - 4, right, y + font.size + 6), outline=(90, 90, 90))
        else:
            sheet.draw.line((left, y + font.size + 4, right, y + font.size + 4), fill=(90, 90, 90))
        if rng.random() < 0.2:
            sheet.draw.rectangle((left + 6, y, left + 18, y + 12), outline=(90, 90, 90))
        y += font.size * rng.uniform(2.2, 2.8)
    captions = _captions("a form with empty fields", "a form", "a printed form")
    asked = (("what is this", "form"), ("is there any text", "yes"))
    return Drawing(sheet.image, captions, asked, _TEXT_WORDS | {"form", "fields", "boxes", "lines"})


_FORMS = ("Application form", "Registration", "Customer details", "Order form", "Feedback", "Entry form")
_FIELDS = (
    "First name", "Last name", "Date of birth", "Street", "City", "Postal code", "Country", "Telephone",
    "E-mail", "Company", "Order number", "Quantity", "Signature", "Date", "Comments", "Account",
)  # fmt: skip


def _slide(rng: random.Random, held_out: bool) -> Drawing:
    themes: tuple[tuple[Color, Color], ...] = (
        ((255, 255, 255), BLACK),
        ((20, 40, 80), (240, 240, 245)),
        ((245, 240, 228), (60, 40, 30)),
        ((28, 28, 30), (240, 240, 240)),
    )
    paper, ink = rng.choice(themes)
    sheet = Sheet(480, rng.choice((270, 360)), paper)
    family = rng.choice((*SANS, *SERIF))
    title, font = load_font(family, rng.randint(26, 34), bold=True), load_font(family, rng.randint(15, 19))
    accent = shade(rng.choice(("red", "blue", "green", "orange")), rng)
    if rng.random() < 0.5:
        sheet.draw.rectangle((0, 0, rng.choice((8, sheet.width)), rng.choice((8, sheet.height))), fill=paper)
        sheet.draw.rectangle((0, sheet.height - 10, sheet.width, sheet.height), fill=accent)
    words = text.pick("letter_sentences", rng).split()
    heading = wrap(" ".join(words[:5]), title, sheet.width - 60)[0]
    sheet.write(heading, 30, 28, title, ink)
    y = 28 + title.size * 1.9
    for _ in range(rng.randint(2, 4)):
        line = wrap(text.pick("letter_sentences", rng), font, sheet.width - 90)[0]
        sheet.draw.ellipse((34, y + 6, 41, y + 13), fill=accent)
        sheet.write(line, 52, y, font, ink)
        y += font.size * 2
    captions = _captions("a slide of a presentation", "a presentation slide", "a slide with text")
    asked = (("what is this", "slide"), ("is there any text", "yes"))
    return Drawing(
        sheet.image, captions, asked, _TEXT_WORDS | {"slide", "presentation", "title", "list", "screenshot"}
    )


PAGES: dict[str, Callable[[random.Random, bool], Drawing]] = {
    "letter": _letter,
    "receipt": _receipt,
    "table": _table,
    "terminal": _terminal,
    "web page": _web_page,
    "form": _form,
    "slide": _slide,
}
