"""The words of a sentence that say what is there, and those of them that it says twice."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["content_words", "repeated_words"]

STOP_WORDS = frozenset(
    """a about above across after against all along also am among amongst an and another any appear appears
    are around as at away back be beautiful because been before behind being below beside between big but by
    can color colored colorful comes coming couple different do does doing down during each end features few
    for from full get gets getting go goes going good got group had has have having he her here herself him
    himself his how i if image in inside into is it its itself just kind large left like little long look
    looking looks lot lots made many middle more most moving near nearby next nice no not of off on onto one
    ones only open or other others out outside over part past photo photograph picture pictured piece place
    placed put right s same see seen set several she shot show showing shown shows side sides small so some
    somebody someone something stands such t taken taking that the their them themselves there these they
    thing things this those through to together top towards toward type under up upon use used using various
    very view was way wearing we well were what when where which while who whose why will with within without
    you your""".split()
)
WORD = re.compile(r"[a-z][a-z-]*[a-z]")


def content_words(text: str) -> list[str]:
    """The words of a text that say what is there, in their order, each once."""
    return list(dict.fromkeys(word for word in WORD.findall(text.lower()) if word not in STOP_WORDS))


def repeated_words(tokens: Sequence[str]) -> frozenset[str]:
    """Content words that a caption says more than once."""
    return frozenset(word for word in content_words(" ".join(tokens)) if tokens.count(word) > 1)
