"""A caption → its words: spellings settled, "in front of" one word, "a picture of" left out."""

from __future__ import annotations

import re

__all__ = ["split_words"]

PICTURE_PREFIX = re.compile(
    r"^(?:this is |there is |there's |here is )?(?:(?:an?|the|this|two|some) )?"
    r"(?:(?:[a-z-]+|black and white) ){0,3}?"
    r"(?:picture|photo|photograph|image|view|shot|close ?up|close-up|portrait|pictures|photos)"
    r"(?: view| shot| photo| picture| image)? (?:of|shows|showing) "
)
EXISTENTIAL_PREFIX = re.compile(r"^(?:there (?:is|are|was|were)|there's|this is|these are|here is|it is) ")
COMPLEX_PREPOSITIONS = (
    (r"\bin the middle of\b", "in_the_middle_of"),
    (r"\b(?:on|at|by|along|to) the (?:side|sides) of\b", "on_the_side_of"),
    (r"\b(?:on|at|by|near|along) the edge of\b", "on_the_edge_of"),
    (r"\b(?:in|at) (?:the )?front of\b", "in_front_of"),
    (r"\bin (?:the )?back of\b", "in_back_of"),
    (r"\bon the back of\b", "on_the_back_of"),
    (r"\b(?:on|at) (?:the )?top of\b", "on_top_of"),
    (r"\bnext to\b", "next_to"),
    (r"\bclose to\b", "close_to"),
    (r"\binside of\b", "inside_of"),
    (r"\bout of\b", "out_of"),
    (r"\baway from\b", "away_from"),
    (r"\bin between\b", "in_between"),
    (r"\bat (?:the )?bottom of\b", "below"),
)
SPELLINGS = (
    (r"\bt ?v\b", "tv"), (r"\btee shirt\b|\bt-shirt\b|\bt shirt\b", "t-shirt"),
    (r"\bsnow board", "snowboard"), (r"\bskate board", "skateboard"), (r"\bsurf board", "surfboard"),
    (r"\bair plane", "airplane"), (r"\bmotor cycle", "motorcycle"), (r"\bfire place", "fireplace"),
    (r"\bhotdog", "hot dog"), (r"\bbath tub", "bathtub"), (r"\bbase ball", "baseball"),
    (r"\bwet[ -]suit", "wetsuit"), (r"\bskiis\b", "skis"), (r"\bfire-hydrant", "fire hydrant"),
)  # fmt: skip
WORD = re.compile(r"'s|[a-z][a-z_-]*(?:'(?!s\b)[a-z]+)?|\d+|[,;]")


def split_words(caption: str) -> list[str]:
    """Lower-case words and commas, with "in front of" as one word and "a picture of" left out."""
    text = caption.lower().replace("’", "'")
    for pattern, spelling in SPELLINGS:
        text = re.sub(pattern, spelling, text)
    text = PICTURE_PREFIX.sub("", text)
    text = EXISTENTIAL_PREFIX.sub("", text)
    for pattern, word in COMPLEX_PREPOSITIONS:
        text = re.sub(pattern, word, text)
    return WORD.findall(text)
