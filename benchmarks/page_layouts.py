"""Printed pages drawn from scratch, receipts, letters and tables, and the table of all kinds of pages."""

from __future__ import annotations

import random
from collections.abc import Callable

from PIL import ImageFont

from benchmarks import page_text as text
from benchmarks.page_fonts import MONO, SANS, SERIF, load_font
from benchmarks.page_screens import draw_terminal, draw_web_page
from benchmarks.page_sheet import BLACK, WHITE, Color, Sheet, cut_below, line_height, wrap

__all__ = ["LAYOUTS", "draw_letter", "draw_receipt", "draw_table"]


def draw_receipt(rng: random.Random) -> Sheet:
    """A till receipt in a monospaced face: shop, items with prices, totals, card slip."""
    size = rng.randint(24, 30)
    family = rng.choice((*MONO, *MONO, *SANS))
    font, bold = load_font(family, size), load_font(family, size, bold=True)
    title = load_font(family, size + 12, bold=True)
    width = round(size * rng.uniform(26, 30))
    margin, step = size * 1.6, line_height(font, rng.uniform(1.4, 1.65))
    items = rng.sample(text.words_of("goods"), rng.randint(10, 17))
    sheet = Sheet(width, round(margin * 2 + step * (len(items) + 25)), (250, 249, 246))
    middle, right = width / 2, width - margin
    ink: Color = rng.choice((BLACK, (45, 45, 60), (60, 40, 45)))
    company = rng.choice(text.words_of("companies"))
    sheet.write(company, middle, margin, title, ink, align="middle")
    y = margin + size * 2
    for line in (text.street(rng), text.phone(rng), f"{text.date(rng)}  {text.fill('{time}', rng)}"):
        sheet.write(line, middle, y, font, ink, align="middle")
        y += step
    for left_text, right_text in (("Receipt", text.code(rng)), ("Cashier", f"No. {rng.randint(2, 31)}")):
        y = _pair(sheet, left_text, right_text, margin, right, y, font, ink, step)
    y = _rule(sheet, margin, right, y, step, ink)
    total = 0.0
    for item in items:
        price = round(rng.uniform(0.79, 38), 2)
        total += price
        y = _pair(sheet, item, f"{price:.2f}", margin, right, y, font, ink, step)
    y = _rule(sheet, margin, right, y, step, ink)
    rate = rng.choice((5, 7.25, 8.5, 19))
    tax = round(total * rate / 100, 2)
    sums = (("Subtotal", total, font), (f"Tax {rate}%", tax, font), ("TOTAL", total + tax, bold))
    for label, value, face in sums:
        y = _pair(sheet, label, f"${value:,.2f}", margin, right, y, face, ink, step)
    card = f"Card ending {rng.randint(1000, 9999)}"
    y = _pair(
        sheet, card, rng.choice(("APPROVED", "PIN OK", "Contactless")), margin, right, y, font, ink, step
    )
    y = _pair(sheet, "Auth code", f"{rng.randint(100000, 999999)}", margin, right, y, font, ink, step)
    y += step / 2
    for pattern in rng.sample(text.words_of("receipt_ends"), 4):
        for line in wrap(text.fill(pattern, rng), font, right - margin):
            sheet.write(line, middle, y, font, ink, align="middle")
            y += step
    return cut_below(sheet, y + margin)


def _pair(
    sheet: Sheet,
    left_text: str,
    right_text: str,
    left: float,
    right: float,
    y: float,
    font: ImageFont.FreeTypeFont,
    ink: Color,
    step: float,
) -> float:
    sheet.write(left_text, left, y, font, ink)
    sheet.write(right_text, right, y, font, ink, align="right")
    return y + step


def _rule(sheet: Sheet, left: float, right: float, y: float, step: float, ink: Color) -> float:
    middle = y + step * 0.35
    for x in range(round(left), round(right), 14):
        sheet.draw.line((x, middle, x + 8, middle), fill=ink, width=2)
    return y + step * 0.8


def draw_letter(rng: random.Random) -> Sheet:
    """A business letter: letterhead, address, date, reference, paragraphs, closing."""
    size = rng.randint(19, 24)
    family = rng.choice((*SERIF, *SERIF, *SANS))
    font, bold = load_font(family, size), load_font(family, size, bold=True)
    head = load_font(family, size + 14, bold=True)
    sheet = Sheet(1000, 1414, (253, 252, 249))
    ink: Color = rng.choice((BLACK, (35, 35, 50), (50, 44, 40)))
    margin, step = 110.0, line_height(font, rng.uniform(1.38, 1.55))
    company = rng.choice(text.words_of("companies"))
    sheet.write(company, margin, 90, head, rng.choice(((24, 60, 110), (120, 30, 40), ink)))
    y = 90 + size * 2.6
    place = f"{rng.choice(text.words_of('places'))} {rng.randint(10000, 99999)}"
    for line in (f"{text.street(rng)}, {place}", f"{text.phone(rng)}, {text.email(rng)}"):
        sheet.write(line, margin, y, font, ink)
        y += step
    y += step
    sheet.write(text.date(rng), sheet.width - margin, y, font, ink, align="right")
    y += step * 1.5
    sheet.write(f"Subject: your {text.fill('{thing} {code}', rng)}", margin, y, bold, ink)
    y += step * 1.7
    sheet.write(rng.choice(text.words_of("letter_openings")), margin, y, font, ink)
    y += step * 1.6
    patterns = rng.sample(text.words_of("letter_sentences"), 12)
    closing_room = step * 5
    while patterns:
        taken = [patterns.pop() for _ in range(min(len(patterns), rng.randint(3, 5)))]
        lines = wrap(" ".join(text.fill(p, rng) for p in taken), font, sheet.width - 2 * margin)
        if y + step * len(lines) + closing_room > sheet.height - 60:
            break
        for line in lines:
            sheet.write(line, margin, y, font, ink)
            y += step
        y += step * 0.7
    sheet.write(rng.choice(text.words_of("letter_closings")), margin, y, font, ink)
    sheet.write(rng.choice(text.words_of("signatures")), margin, y + step * 2.2, bold, ink)
    return sheet


def draw_table(rng: random.Random) -> Sheet:
    """A table with a title, a header row and notes; ruled, striped or open."""
    size = rng.randint(18, 24)
    family = rng.choice((*SANS, *SANS, *SERIF))
    font, bold = load_font(family, size), load_font(family, size, bold=True)
    columns = rng.randint(4, 5)
    rows = rng.sample(text.words_of("table_rows"), rng.randint(11, 16))
    step = line_height(font, rng.uniform(1.9, 2.3))
    margin = 60.0
    sheet = Sheet(1200, round(margin * 2 + step * (len(rows) + 6)), WHITE)
    ink: Color = BLACK
    sheet.write(
        rng.choice(text.words_of("table_titles")),
        margin,
        margin,
        load_font(family, size + 12, bold=True),
        ink,
    )
    top = margin + size * 2.6
    first_width = 270.0
    width = (sheet.width - 2 * margin - first_width) / columns
    edges = [margin, *(margin + first_width + width * i for i in range(columns + 1))]
    headers = rng.sample(text.words_of("table_headers"), columns)
    style = rng.choice(("ruled", "striped", "open"))
    for index in range(len(rows) + 1):
        y = top + step * index
        if index == 0:
            sheet.draw.rectangle((margin, y, edges[-1], y + step), fill=(221, 229, 240))
        elif style == "striped" and index % 2 == 0:
            sheet.draw.rectangle((margin, y, edges[-1], y + step), fill=(240, 242, 245))
        if style == "ruled":
            sheet.draw.line((margin, y + step, edges[-1], y + step), fill=(150, 150, 150), width=1)
    if style == "ruled":
        for x in edges:
            sheet.draw.line((x, top, x, top + step * (len(rows) + 1)), fill=(150, 150, 150), width=1)
    shift = (step - size * 1.2) / 2
    for index, name in enumerate(["Name", *rows]):
        y, face = top + step * index + shift, bold if index == 0 else font
        sheet.write(name, margin + 12, y, face, ink)
        for column, header in enumerate(headers):
            cell = header if index == 0 else _cell(header, rng)
            sheet.write(cell, edges[column + 2] - 14, y, face, ink, align="right")
    y = top + step * (len(rows) + 1) + size
    for pattern in rng.sample(text.words_of("table_notes"), 2):
        sheet.write(text.fill(pattern, rng), margin, y, font, (70, 70, 75))
        y += size * 1.6
    return cut_below(sheet, y + margin / 2)


def _cell(header: str, rng: random.Random) -> str:
    makers: dict[str, Callable[[], str]] = {
        "Qty": lambda: str(rng.randint(10, 4000)),
        "Price": lambda: text.amount(rng, 2, 90),
        "Total": lambda: text.amount(rng, 100, 98000),
        "Code": lambda: text.code(rng),
        "Date": lambda: f"{rng.randint(2019, 2026)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}",
        "Status": lambda: rng.choice(text.words_of("table_words")),
        "Change": lambda: f"{rng.choice('+-')}{rng.uniform(0.1, 48):.1f}%",
        "Rate": lambda: f"{rng.uniform(0, 12):.3f}",
        "Stock": lambda: f"{rng.randint(10, 99)}/{rng.randint(100, 900)}",
        "Updated": lambda: text.fill("{time}", rng),
    }
    return makers[header]()


LAYOUTS: dict[str, Callable[[random.Random], Sheet]] = {
    "receipt": draw_receipt,
    "letter": draw_letter,
    "table": draw_table,
    "terminal": draw_terminal,
    "web": draw_web_page,
}
