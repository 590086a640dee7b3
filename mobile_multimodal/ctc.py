"""Class probabilities per step → text, by best path (Graves et al., ICML 2006, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["DecodedLine", "decode"]


@dataclass(frozen=True)
class DecodedLine:
    """The text of a line and the mean probability of its characters, 0..1 (0 where it is empty)."""

    text: str
    confidence: float


def decode(probability: NDArray[np.float32], characters: str, *, space_threshold: float = 1.0) -> DecodedLine:
    """Most likely class per step [T, classes], repeats merged, blanks (class 0) dropped.

    Recognizers of this family leave out spaces: at a gap that they pass as blank, the space often
    has the second place. Where it reaches ``space_threshold`` between two characters it is put
    back; 1 leaves the best path as it is. ``characters`` names the classes behind the blank.
    """
    classes = probability.argmax(axis=-1)
    first_of_run = np.concatenate([[True], classes[1:] != classes[:-1]])
    kept = np.flatnonzero(first_of_run & (classes != 0))
    if not kept.size:
        return DecodedLine("", 0.0)
    pieces = [characters[index - 1] for index in classes[kept]]
    space = characters.find(" ") + 1
    if space and space_threshold < 1.0:
        spaces = probability[:, space]
        for i in range(len(kept) - 1, 0, -1):
            between = spaces[kept[i - 1] + 1 : kept[i]]
            if between.size and between.max() >= space_threshold and " " not in (pieces[i - 1], pieces[i]):
                pieces.insert(i, " ")
    return DecodedLine("".join(pieces), float(probability[kept, classes[kept]].mean()))
