"""Which nouns can name the same thing, and which things a noun makes likely: the guard of true negatives.

"Is there a bicycle?" may only be answered "no" for captions that mention nothing a bicycle could be
called (bike, motorbike) and nothing that goes with one (cyclist).
"""

from __future__ import annotations

from itertools import pairwise

from training.question_rules.inflection import PRESENT_PARTICIPLES, SINGULARS, THIRD_PERSONS
from training.question_rules.vocabulary import (
    CATEGORIES,
    COMPOUNDS,
    FEMALE,
    MALE,
    RELATED_GROUPS,
    RELATED_TO_ANIMALS,
)

__all__ = ["may_be_there", "normal_words", "related_to"]


def _table() -> dict[str, frozenset[str]]:
    table: dict[str, set[str]] = {}
    for group in RELATED_GROUPS:
        for word in group:
            table.setdefault(word, set()).update(group)
    for noun, category in CATEGORIES.items():
        if category == "animal":
            table.setdefault(noun, set()).update(RELATED_TO_ANIMALS)
    return {word: frozenset(members) for word, members in table.items()}


_RELATED = _table()
_PEOPLE = frozenset(noun for noun, category in CATEGORIES.items() if category == "person")


def related_to(noun: str) -> frozenset[str]:
    """Words any of which in a caption forbids the claim that there is no ``noun``; itself included.

    A man can be called rider or person: for "man" and "woman" every word for people that is
    not surely of the other sex counts.
    """
    words = {*noun.split(), noun.replace(" ", "_")} | _RELATED.get(noun, frozenset())
    for part in noun.split():
        words |= _RELATED.get(part, frozenset())
    if noun in _PEOPLE:
        other = FEMALE if noun in MALE else MALE if noun in FEMALE else frozenset()
        words |= _PEOPLE - other
        words |= {
            "everyone",
            "everybody",
            "someone",
            "somebody",
            "others",
            "other",
            "another",
            "couple",
            "he",
            "she",
        }
        words |= {"group", "people", "crowd", "they", "their", "duo", "pair", "two", "three", "four"}
        words -= {"he"} if noun in FEMALE else {"she"} if noun in MALE else set()
    return frozenset(words)


def normal_words(words: list[str]) -> frozenset[str]:
    """A caption's words, each also in the singular and as a base verb; two-word names joined by "_"."""
    found = set(words)
    found.update(SINGULARS[word] for word in words if word in SINGULARS)
    found.update(PRESENT_PARTICIPLES[word] for word in words if word in PRESENT_PARTICIPLES)
    found.update(THIRD_PERSONS[word] for word in words if word in THIRD_PERSONS)
    for word in words:
        found.update(part for part in word.split("-") if part)
        if word.endswith("s") and len(word) > 3:
            found.add(word[:-1])
    for first, second in pairwise(words):
        name = f"{first}_{SINGULARS.get(second, second)}"
        if name in COMPOUNDS:
            found.add(name)
    return frozenset(found)


def may_be_there(noun: str, words: frozenset[str]) -> bool:
    """Whether captions with these normal words leave room for a ``noun`` in the photo.

    Besides the table, a part of a longer word counts: "snowboarder" and "snowboards" speak of a "snowboard".
    """
    related = related_to(noun)
    if related & words:
        return True
    stems = [noun.replace(" ", ""), *(word for word in related if len(word) >= 5)]
    return any(stem in word for stem in stems if len(stem) >= 4 for word in words)
