"""How right an answer is: VQA accuracy against several people's answers, exact match against one."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

__all__ = ["exact_match", "normalize_answer", "vqa_accuracy"]

_NUMBER_WORDS = dict(
    zip(
        ("none", "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
        ("0", *map(str, range(11))),
        strict=True,
    )
)
_ARTICLES = frozenset(("a", "an", "the"))
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_FULL_STOP = re.compile(r"\.(?!\d)")
# Words that stay themselves without their apostrophe (we'll, i'd, it's, she'd) are left out, as in
# the official evaluation.
_CONTRACTIONS = (
    "ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't "
    "haven't he'd he'd've he's how'd how'll how's i'd've i'm i've isn't it'd it'd've it'll let's ma'am "
    "mightn't mightn't've might've mustn't must've needn't o'clock oughtn't shan't she'd've should've "
    "shouldn't shouldn't've someone'd someone'd've someone's something'd something'll that's there'd "
    "there'd've there're there's they'd they'd've they'll they're they've wasn't we'd've we've weren't "
    "what'll what're what's what've when's where'd where's where've who'd who'd've who'll who's who've "
    "why's won't would've wouldn't wouldn't've y'all you'd you'd've you'll you're you've"
)


def _spellings(contraction: str) -> list[str]:
    """A contraction with every choice of its apostrophes left out."""
    parts = contraction.split("'")
    joints = itertools.product(("", "'"), repeat=len(parts) - 1)
    return [parts[0] + "".join(map("".join, zip(joint, parts[1:], strict=True))) for joint in joints]


_APOSTROPHES = {
    spelling: contraction for contraction in _CONTRACTIONS.split() for spelling in _spellings(contraction)
}


def normalize_answer(answer: str) -> str:
    """An answer as the VQA evaluation compares it (Antol et al. 2015, arXiv 1505.00468).

    Lower case, number words to ten as digits, no articles, no punctuation (an apostrophe and a
    decimal point stay), missing apostrophes of contractions put back.
    """
    text = answer.replace("’", "'").strip()
    glued = _COMMA_IN_NUMBER.search(text) is not None
    cleaned = text
    for mark in _PUNCTUATION:
        at_an_edge = f"{mark} " in text or f" {mark}" in text
        cleaned = cleaned.replace(mark, "" if at_an_edge or glued else " ")
    words = [_NUMBER_WORDS.get(word, word) for word in _FULL_STOP.sub("", cleaned).lower().split()]
    return " ".join(_APOSTROPHES.get(word, word) for word in words if word not in _ARTICLES)


def vqa_accuracy(answer: str, human_answers: Sequence[str], *, leave_one_out: bool = False) -> float:
    """Share of full credit, 0..1: min(n / 3, 1) where n people gave this answer.

    ``leave_one_out`` averages it over all sets of the other people, as the official evaluation
    does; with n of ten agreeing that is 0, 0.3, 0.6, 0.9, 1. All answers are normalised (the official
    evaluation normalises the people's only in part). An empty answer scores 0.

    Raises:
        ValueError: no human answers.
    """
    if not human_answers:
        raise ValueError("VQA accuracy needs at least one human answer")
    given = normalize_answer(answer)
    if not given:
        return 0.0
    matches = [normalize_answer(human) == given for human in human_answers]
    agreeing = sum(matches)
    if not leave_one_out:
        return min(agreeing / 3.0, 1.0)
    return sum(min((agreeing - match) / 3.0, 1.0) for match in matches) / len(matches)


def exact_match(answer: str, expected: str) -> bool:
    """Whether both are the same after :func:`normalize_answer`; an empty answer never is.

    Raises:
        ValueError: the expected answer is empty.
    """
    wanted = normalize_answer(expected) or expected.strip().lower()
    if not wanted:
        raise ValueError("exact match needs an expected answer")
    return (normalize_answer(answer) or answer.strip().lower()) == wanted
