"""Screens drawn from scratch: terminals and web pages."""

from __future__ import annotations

import random

from PIL import ImageFont

from benchmarks import page_text as text
from benchmarks.page_fonts import MONO, SANS, SERIF, load_font
from benchmarks.page_sheet import BLACK, WHITE, Color, Sheet, cut_below, line_height, wrap

__all__ = ["draw_terminal", "draw_web_page"]


def draw_terminal(rng: random.Random) -> Sheet:
    """A terminal window: title bar, then commands and what they print."""
    size = rng.randint(18, 23)
    family = rng.choice(MONO)
    font = load_font(family, size)
    paper, ink, prompt = rng.choice(
        (
            ((24, 26, 31), (220, 223, 228), (126, 211, 133)),
            ((0, 43, 54), (188, 200, 200), (181, 200, 60)),
            ((12, 12, 12), (235, 235, 235), (97, 214, 214)),
            ((253, 246, 227), (60, 75, 82), (38, 110, 180)),
        )
    )
    sheet = Sheet(rng.choice((1100, 1180, 1260)), rng.choice((900, 960)), paper)
    sheet.draw.rectangle((0, 0, sheet.width, 46), fill=(205, 207, 210))
    for index, light in enumerate(((237, 106, 94), (245, 191, 79), (98, 197, 84))):
        sheet.draw.ellipse((18 + 30 * index, 15, 34 + 30 * index, 31), fill=light)
    bar = load_font("roboto", 20)
    sheet.write(
        f"dev@{rng.choice(text.words_of('places')).lower()}: ~/src",
        sheet.width / 2,
        10,
        bar,
        BLACK,
        align="middle",
    )
    blocks = [text.fill(block, rng).split("\n") for block in rng.sample(text.words_of("shell_blocks"), 8)]
    blocks.insert(rng.randint(0, 2), ["$ ls -l", *text.listing(rng, rng.randint(5, 8))])
    y, step = 66.0, line_height(font, 1.42)
    for block in blocks:
        if y + step * len(block) > sheet.height - 20:
            continue  # a shorter one may still fit
        for line in block:
            sheet.write(line, 24, y, font, prompt if line.startswith("$ ") else ink)
            y += step
        y += step * 0.4
    return sheet


def draw_web_page(rng: random.Random) -> Sheet:
    """A web page as a phone or a browser shows it: navigation, article, list, button, footer."""
    size = rng.randint(19, 25)
    family = rng.choice((*SANS, *SANS, *SERIF))
    font, bold = load_font(family, size), load_font(family, size, bold=True)
    bar = load_font(rng.choice(SANS), 21, bold=True)
    sheet = Sheet(rng.choice((960, 1080, 1200)), 1400, WHITE)
    accent: Color = rng.choice(((28, 92, 190), (168, 38, 60), (16, 110, 92), (70, 60, 150)))
    margin, step = 64.0, line_height(font, rng.uniform(1.45, 1.6))
    sheet.draw.rectangle((0, 0, sheet.width, 64), fill=accent)
    x = margin
    for word in rng.sample(text.words_of("navigation"), 5):
        x = sheet.write(word, x, 19, bar, WHITE) + 44
    title = load_font(family, size + 16, bold=True)
    y = 100.0
    for line in wrap(rng.choice(text.words_of("article_titles")), title, sheet.width - 2 * margin):
        sheet.write(line, margin, y, title, BLACK)
        y += title.size * 1.3
    sheet.write(
        f"Published {text.date(rng)} | {rng.randint(3, 14)} min read", margin, y + 8, font, (95, 98, 104)
    )
    y += step * 1.9
    patterns = rng.sample(text.words_of("article_sentences"), 12)
    for section in rng.sample(text.words_of("article_sections"), 2):
        y = _paragraph(sheet, [patterns.pop() for _ in range(3)], y, margin, font, BLACK, step, rng)
        sheet.write(section, margin, y, bold, accent)
        y += step * 1.4
    y = _paragraph(sheet, [patterns.pop() for _ in range(3)], y, margin, font, BLACK, step, rng)
    for number, pattern in enumerate(rng.sample(text.words_of("bullets"), 4), start=1):
        # Numbers and not dots: whether a bullet is text is a matter of taste.
        sheet.write(f"{number}. {text.fill(pattern, rng)}", margin + 12, y, font, BLACK)
        y += step
    label = rng.choice(text.words_of("buttons"))
    y += step * 0.5
    sheet.draw.rounded_rectangle((margin, y, margin + bar.getlength(label) + 56, y + 54), 10, fill=accent)
    sheet.write(label, margin + 28, y + 14, bar, WHITE)
    y += 54 + step
    footer = f"{rng.choice(text.words_of('companies'))} | {text.email(rng)} | Terms of use"
    sheet.write(footer, margin, y, load_font(family, size - 2), (95, 98, 104))
    return cut_below(sheet, y + step * 2)


def _paragraph(
    sheet: Sheet,
    patterns: list[str],
    y: float,
    margin: float,
    font: ImageFont.FreeTypeFont,
    ink: Color,
    step: float,
    rng: random.Random,
) -> float:
    for line in wrap(" ".join(text.fill(p, rng) for p in patterns), font, sheet.width - 2 * margin):
        sheet.write(line, margin, y, font, ink)
        y += step
    return y + step * 0.6
