"""Class probabilities per step → text, by best path (Graves et al., ICML 2006, section 3.2).

Two habits of small recognizers are put right, each only where the recognizer itself gives the
other reading some probability: spaces that are left out, and ``0`` for ``O`` and its like.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["DecodedLine", "decode"]

LOOKALIKES = {
    "0": "Oo",
    "1": "lI",
    "5": "S",
    "8": "B",
    "O": "0",
    "o": "0",
    "l": "1",
    "I": "1",
    "S": "5",
    "B": "8",
}

DOUBT = 0.01
"""Enough probability for ``O`` in ``0ct`` and ``0`` in ``2O24``: the other reading is no word."""

STRONG_DOUBT = 0.3
"""Enough for the rest: ``Ju1`` is ``Jul`` where the ``l`` comes close, but ``item1`` is a name."""


@dataclass(frozen=True)
class DecodedLine:
    """The text of a line and the mean probability of its characters, 0..1 (0 where it is empty)."""

    text: str
    confidence: float


def decode(probability: NDArray[np.float32], characters: str, *, space_threshold: float = 1.0) -> DecodedLine:
    """Most likely class per step [T, classes], repeats merged, blanks (class 0) dropped.

    A space is put back between two characters where its probability reaches ``space_threshold``
    at the steps between them; 1 puts none back. ``characters`` names the classes behind the blank.
    """
    classes = probability.argmax(axis=-1)
    first_of_run = np.concatenate([[True], classes[1:] != classes[:-1]])
    kept = np.flatnonzero(first_of_run & (classes != 0))
    if not kept.size:
        return DecodedLine("", 0.0)
    text = [characters[index - 1] for index in classes[kept]]
    scores = probability[kept]  # [characters of the line, classes]
    missing = _missing_spaces(text, probability, kept, characters.find(" ") + 1, space_threshold)
    confidence = [float(score) for score in scores.max(axis=-1)]
    for start, stop in _fragments(text, missing):
        _settle_lookalike(text, confidence, scores, characters, start, stop)
    spaced = [f" {piece}" if i in missing else piece for i, piece in enumerate(text)]
    return DecodedLine("".join(spaced), float(np.mean(confidence)))


def _missing_spaces(
    text: Sequence[str],
    probability: NDArray[np.float32],
    kept: NDArray[np.intp],
    space: int,
    threshold: float,
) -> set[int]:
    """Indices of the characters before which a space was all but seen."""
    if not space or threshold >= 1.0:
        return set()
    return {
        i
        for i in range(1, len(text))
        if " " not in (text[i - 1], text[i])
        and (text[i - 1].isalnum() or text[i].isalnum())  # a ruled line is no row of words
        and probability[kept[i - 1] + 1 : kept[i], space].max(initial=0.0) >= threshold
    }


def _fragments(text: Sequence[str], breaks: set[int]) -> Iterator[tuple[int, int]]:
    """Runs of letters and digits, as (start, stop)."""
    start = 0
    for i in range(len(text) + 1):
        ends = i == len(text) or not text[i].isalnum()
        if ends or i in breaks:
            if i > start:
                yield start, i
            start = i + 1 if ends else i


def _settle_lookalike(
    text: list[str],
    confidence: list[float],
    scores: NDArray[np.float32],
    characters: str,
    start: int,
    stop: int,
) -> None:
    """Change the one digit in a word, or the one letter in a number, for the letter or digit it is like."""
    digits = [i for i in range(start, stop) if text[i].isdigit()]
    letters = [i for i in range(start, stop) if not text[i].isdigit()]
    if stop - start < 3 or min(len(digits), len(letters)) != 1:
        return
    (odd,) = digits if len(digits) == 1 else letters
    others = [c for c in LOOKALIKES.get(text[odd], "") if c in characters]
    if not others:
        return
    best = max(others, key=lambda c: scores[odd, characters.index(c) + 1])
    score = float(scores[odd, characters.index(best) + 1])
    # Names end in digits (eth0), and numbers in letters rarely look like digits.
    plain = text[odd] in "0Oo" and (odd in letters or odd < stop - 1)
    if score >= (DOUBT if plain else STRONG_DOUBT):
        text[odd], confidence[odd] = best, score
