"""A blank sheet on which layouts write lines of text, each remembered with its place."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

__all__ = ["BLACK", "WHITE", "Color", "PlacedLine", "Sheet", "cut_below", "line_height", "wrap"]

Color = tuple[int, int, int]
WHITE: Color = (255, 255, 255)
BLACK: Color = (20, 20, 22)


@dataclass(frozen=True)
class PlacedLine:
    """A piece of text as drawn: ``left``, ``top``, ``right``, ``bottom`` in pixels of the sheet."""

    text: str
    left: float
    top: float
    right: float
    bottom: float


class Sheet:
    """A picture of text; ``lines`` hold what was written, in reading order, the order of writing."""

    def __init__(self, width: int, height: int, paper: Color) -> None:
        self.image = Image.new("RGB", (width, height), paper)
        self.draw = ImageDraw.Draw(self.image)
        self.lines: list[PlacedLine] = []

    @property
    def width(self) -> int:
        return self.image.width

    @property
    def height(self) -> int:
        return self.image.height

    def write(
        self, text: str, x: float, y: float, font: ImageFont.FreeTypeFont, ink: Color, *, align: str = "left"
    ) -> float:
        """Write one line with its top at ``y``; ``x`` is its left, middle or right end.

        Returns its right end. Leading spaces move the text and are no part of the line; blank text
        writes nothing.
        """
        words = text.strip()
        if not words:
            return x
        x += font.getlength(text[: len(text) - len(text.lstrip())]) if align == "left" else 0.0
        length = font.getlength(words)
        left = x - {"left": 0.0, "middle": length / 2, "right": length}[align]
        self.draw.text((left, y), words, font=font, fill=ink)
        ink_left, ink_top, ink_right, ink_bottom = font.getbbox(words)
        self.lines.append(PlacedLine(words, left + ink_left, y + ink_top, left + ink_right, y + ink_bottom))
        return left + length


def wrap(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """Break text at spaces into lines of at most ``width`` pixels; a longer word keeps a line of its own."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        longer = f"{line} {word}" if line else word
        if line and font.getlength(longer) > width:
            lines.append(line)
            line = word
        else:
            line = longer
    return [*lines, line] if line else lines


def line_height(font: ImageFont.FreeTypeFont, factor: float) -> float:
    """Pixels from one line to the next."""
    return factor * font.size


def cut_below(sheet: Sheet, bottom: float) -> Sheet:
    """The sheet without its blank end."""
    if bottom < sheet.height:
        sheet.image = sheet.image.crop((0, 0, sheet.width, round(bottom)))
    return sheet
