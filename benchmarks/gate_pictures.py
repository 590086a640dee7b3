"""The photos that the gate asks about, and what anyone would say of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources

__all__ = ["GATE_PICTURES", "GatePicture", "names_any", "picture_bytes"]


@dataclass(frozen=True)
class GatePicture:
    """A packaged photo: words of which a right caption has one; questions, each with its right answers."""

    file: str
    words: tuple[str, ...]
    questions: tuple[tuple[str, tuple[str, ...]], ...]


GATE_PICTURES = (
    GatePicture(
        "cat.jpg",
        ("cat", "kitten"),
        (("what animal is this?", ("cat", "kitten")), ("what is in the picture?", ("cat", "kitten"))),
    ),
    GatePicture(
        "cows.jpg",
        ("cow", "cows", "cattle"),
        (("what animal is this?", ("cow", "cows", "cattle")), ("what color is the grass?", ("green",))),
    ),
    GatePicture(
        "dog.jpg",
        ("dog", "dogs"),
        (("what animal is this?", ("dog", "dogs")), ("what color is the grass?", ("green",))),
    ),
    GatePicture(
        "photographer.jpg",
        ("man", "person", "photographer", "camera"),
        (("what is the man holding?", ("camera",)),),
    ),
)
"""Credited in ``benchmarks/gates/pictures/CREDITS.md``."""


def picture_bytes(picture: GatePicture) -> bytes:
    """The file of a photo, a JPEG."""
    return (resources.files("benchmarks") / "gates" / "pictures" / picture.file).read_bytes()


def names_any(text: str, words: tuple[str, ...]) -> bool:
    """Whether one of the words is in the text, as a word of its own."""
    return bool(set(words) & set(re.findall(r"[a-z]+", text.lower())))
