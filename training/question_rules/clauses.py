"""Who does what in a caption: noun phrases and the verbs between them → clauses.

A clause whose subject could be two things ("a man with a dog running") is dropped.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from training.question_rules.caption_words import split_words
from training.question_rules.inflection import BASE_FORMS, PRESENT_PARTICIPLES, THIRD_PERSONS
from training.question_rules.phrases import Phrase, find_phrases, is_animate
from training.question_rules.vocabulary import (
    ADVERBS,
    AUXILIARIES,
    PARTICIPLES,
    PARTICLES,
    PREPOSITIONS,
    PRONOUNS,
)

__all__ = ["BREAKS", "Clause", "ParsedCaption", "parse_caption"]

BE = frozenset("is are was were".split())
RELATIVES = frozenset("that who which".split())
BREAKS = frozenset("while as when where because but so then if whose , ;".split())
# What things without a will can do or be in; people and animals can do everything.
THING_VERBS = frozenset(
    "sit stand hang lay lie rest lean sail float land fly park drive travel move pass cross "
    "contain display show feature surround face cover have".split()
)
MOVING = frozenset("sail fly drive travel move pass cross land go park come turn pull tow".split())


@dataclass(frozen=True)
class Clause:
    """``subject`` (``verb`` [``particle``]) [``target``] [``preposition`` ``place``].

    ``verb`` is a base form, "be" for a bare place ("a cat in a sink"), or a participle as it stands
    ("parked"); ``word`` is how it was written. ``clean`` tells that the words behind the verb were
    all understood up to ``end``; ``joined`` that target or place is one of several ("a ball and a bat").
    """

    subject: Phrase
    verb: str
    word: str
    start: int
    end: int
    particle: str = ""
    target: Phrase | None = None
    preposition: str = ""
    place: Phrase | None = None
    joined: bool = False
    clean: bool = True


@dataclass(frozen=True)
class ParsedCaption:
    """Words of a caption with its phrases and clauses, both from left to right."""

    words: tuple[str, ...]
    phrases: tuple[Phrase, ...]
    clauses: tuple[Clause, ...]


@lru_cache(maxsize=4096)
def parse_caption(caption: str) -> ParsedCaption:
    """Parse one caption; never fails, an odd sentence merely has few phrases and clauses."""
    words = split_words(caption)
    phrases = find_phrases(words)
    inside = {i for phrase in phrases for i in range(phrase.start, phrase.end)}
    clauses: list[Clause] = []
    for position in range(len(words)):
        if position in inside:
            continue
        verb = _verb_at(words, position)
        if verb is None:
            continue
        subject = _subject_of(words, phrases, clauses, position, verb)
        if subject is not None:
            clauses.append(_complete(words, phrases, subject, verb, position))
    clauses.extend(_bare_places(words, phrases, clauses))
    return ParsedCaption(tuple(words), tuple(phrases), tuple(clauses))


def _verb_at(words: list[str], position: int) -> str | None:
    word = words[position]
    if word in PRESENT_PARTICIPLES:
        return PRESENT_PARTICIPLES[word]
    if word in ("has", "have"):
        return "have"
    before = words[position - 1] if position else ""
    if word in PARTICIPLES:
        return None if before in ("has", "have", "get", "being") else word
    if word in THIRD_PERSONS:
        return THIRD_PERSONS[word]
    if word in BASE_FORMS and before not in ("to", *AUXILIARIES):
        return word
    return None


def _phrase_ending(phrases: list[Phrase], end: int) -> int | None:
    return next((i for i, phrase in enumerate(phrases) if phrase.end == end), None)


def _subject_of(
    words: list[str], phrases: list[Phrase], clauses: list[Clause], position: int, verb: str
) -> Phrase | None:
    """The phrase that does the verb at ``position``, or None where that is open."""
    end, relative = position, False
    while end > 0 and (words[end - 1] in AUXILIARIES or words[end - 1] in ADVERBS):
        end -= 1
    if any(word in ("been", "being", "not", "has", "have", "had") for word in words[end:position]):
        return None
    if end > 0 and words[end - 1] in RELATIVES:
        end, relative = end - 1, True
    if end > 0 and words[end - 1] == "and" and end == position:
        same_form = [c for c in clauses if (c.word[-3:] == "ing") == (words[position][-3:] == "ing")]
        return same_form[-1].subject if same_form and same_form[-1].end >= end - 1 else None
    index = _phrase_ending(phrases, end)
    if index is None:
        return None
    nearest = phrases[index]
    before = words[nearest.start - 1] if nearest.start else ""
    if before in ("and", "or") or (before == "," and nearest.start > 1):
        return _pair(words, phrases, index) if before == "and" else None
    if relative or nearest.start == 0:
        return nearest if _can(nearest, verb) else None
    if before in BREAKS:
        return nearest if _can(nearest, verb) else None
    anchor = _anchor(words, phrases, clauses, index)
    if anchor is None or before == "":
        return None
    finite = (not words[position].endswith("ing") and verb not in PARTICIPLES) or end != position
    if finite:
        return anchor if anchor.start == 0 and _can(anchor, verb) else None
    if _can(nearest, verb) and _can(anchor, verb):
        owned = nearest.category in ("clothing", "body", "sports")
        same = (
            is_animate(anchor) and not is_animate(nearest) and verb not in PARTICIPLES and verb not in MOVING
        )
        return anchor if owned or (same and verb not in THING_VERBS) else None
    if _can(nearest, verb):
        return nearest
    return anchor if _can(anchor, verb) and verb not in PARTICIPLES else None


def _anchor(words: list[str], phrases: list[Phrase], clauses: list[Clause], index: int) -> Phrase | None:
    """The phrase that ``phrases[index]`` hangs on: "a man" of "a man on a bench", or who acts on it."""
    nearest = phrases[index]
    for clause in clauses:
        if nearest in (clause.target, clause.place):
            return clause.subject
    if index and words[nearest.start - 1] in PREPOSITIONS and phrases[index - 1].end == nearest.start - 1:
        if index > 1 and _phrase_ending(phrases, phrases[index - 1].start - 1) is not None:
            return None
        return phrases[index - 1]
    return None


def _pair(words: list[str], phrases: list[Phrase], index: int) -> Phrase | None:
    """ "A man and a woman" opening the sentence → one plural phrase of people; other pairs are left alone."""
    if index != 1 or phrases[0].start != 0 or phrases[0].end != phrases[1].start - 1:
        return None
    first, second = phrases[0], phrases[1]
    if first.category != "person" or second.category != "person":
        return None
    count = first.count + second.count if first.count and second.count else None
    return replace(
        first, end=second.end, head="person", name="person", plural=True, count=count, colors=(), modifiers=()
    )


def _can(phrase: Phrase, verb: str) -> bool:
    if is_animate(phrase):
        return verb not in (
            "park",
            "parked",
            "filled",
            "topped",
            "lined",
            "loaded",
            "wrapped",
            "sliced",
            "built",
        )
    if verb in PARTICIPLES or verb in THING_VERBS:
        if phrase.category in ("abstract", "place", "room", "body") and verb not in (
            "filled",
            "covered",
            "decorated",
        ):
            return False
        return (
            verb not in MOVING
            or phrase.category == "vehicle"
            or phrase.head in ("kite", "balloon", "frisbee")
        )
    return False


def _complete(words: list[str], phrases: list[Phrase], subject: Phrase, verb: str, position: int) -> Clause:
    """Read on behind the verb: particle, target, preposition and place."""
    starts = {phrase.start: phrase for phrase in phrases}
    at, particle, target, clean = position + 1, "", None, True
    while at < len(words) and words[at] in ADVERBS:
        at += 1
    following = words[at + 1] if at + 1 < len(words) else ""
    if at < len(words) and words[at] in PARTICLES and (following in PREPOSITIONS or not following):
        particle, at = words[at], at + 1
    if at in starts:
        target = starts[at]
        at = target.end
    joined = target is not None and _is_joined(words, at)
    preposition, place = "", None
    if not joined and at < len(words) and words[at] in PREPOSITIONS:
        preposition = words[at]
        place = starts.get(at + 1)
        if place is not None:
            at = place.end
            joined = _is_joined(words, at)
        clean = place is not None
    elif at < len(words) and words[at] not in BREAKS and words[at] not in ("and", *RELATIVES):
        clean = target is not None or words[at] in PRONOUNS
    return Clause(
        subject, verb, words[position], position, at, particle, target, preposition, place, joined, clean
    )


def _bare_places(words: list[str], phrases: list[Phrase], clauses: list[Clause]) -> list[Clause]:
    """ "A cat in a sink", "the dog is on the bed": places without a verb of their own."""
    if len(phrases) < 2 or phrases[0].start != 0:
        return []
    subject, place = phrases[0], phrases[1]
    at = subject.end
    while at < len(words) and (words[at] in BE or words[at] in ADVERBS):
        at += 1
    if at >= len(words) or words[at] not in PREPOSITIONS or place.start != at + 1:
        return []
    return [
        Clause(subject, "be", "is", at, place.end, "", None, words[at], place, _is_joined(words, place.end))
    ]


def _is_joined(words: list[str], at: int) -> bool:
    """Whether a phrase that ends at ``at`` is one of several, or a part of something."""
    if at >= len(words):
        return False
    if words[at] == "and" and at + 1 < len(words):
        return _verb_at(words, at + 1) is None
    return words[at] in ("and", "or", "of", "'s") or (words[at] == "," and "and" in words[at:])
