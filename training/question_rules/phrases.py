"""Words of a caption → noun phrases, by word lists alone (no tagger, no model).

A phrase is only found when every word of it can be placed; a phrase whose last word is unknown
is dropped, because its head would be guessed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from training.question_rules.inflection import BASE_FORMS, PRESENT_PARTICIPLES, SINGULARS, THIRD_PERSONS
from training.question_rules.vocabulary import (
    ADJECTIVES,
    ADVERBS,
    AUXILIARIES,
    CATEGORIES,
    COLOR_SPELLINGS,
    COLORS,
    COMPOUNDS,
    DETERMINERS,
    DOG_BREEDS,
    GROUP_WORDS,
    NUMBERS,
    PART_WORDS,
    PARTICIPLES,
    PLURAL_ONLY,
    PREPOSITIONS,
    PRONOUNS,
)

__all__ = ["Phrase", "find_phrases", "is_animate", "singular"]

POSSESSIVES = frozenset("his her its their my".split())
COVERING = frozenset("covered filled lined topped colored shaped".split())


@dataclass(frozen=True)
class Phrase:
    """A noun phrase of a caption: words ``start``..``end`` (exclusive).

    ``head`` is its noun in the singular, ``name`` the compound it closes ("fire hydrant") or the head.
    ``count`` is 1 for "a dog", n for a number word, None where the caption leaves it open.
    ``collective``: it stood behind "a group of", "a slice of". ``possessive``: "his dog", "the man's dog".
    """

    start: int
    end: int
    head: str
    name: str
    plural: bool
    count: int | None
    colors: tuple[str, ...]
    modifiers: tuple[str, ...]
    collective: bool = False
    possessive: bool = False

    @property
    def category(self) -> str:
        """The word list that its head stands in."""
        return CATEGORIES[self.head]


def singular(word: str) -> str | None:
    """The singular of a known noun, or None for any other word."""
    if word in CATEGORIES:
        return word
    return SINGULARS.get(word)


def is_animate(phrase: Phrase) -> bool:
    """Whether the phrase names people or live animals (a teddy bear is neither)."""
    toy = {
        "toy",
        "stuffed",
        "teddy",
        "plastic",
        "fake",
        "statue",
        "metal",
        "hot",
        "wooden",
        "rocking",
        "inflatable",
    }
    return phrase.category in ("person", "animal") and not toy & {*phrase.modifiers, *phrase.name.split()}


def find_phrases(words: list[str]) -> list[Phrase]:
    """Noun phrases from left to right; "a group of dogs" and "a slice of pizza" are one phrase each."""
    phrases: list[Phrase] = []
    position = 0
    while position < len(words):
        phrase = _phrase_at(words, position)
        if phrase is None:
            position += 1
            continue
        position = phrase.end
        if position < len(words) and words[position] == "'s":
            position += 1
            owned = _phrase_at(words, position, owned=True)
            if owned is not None:
                phrases.append(owned)
                position = owned.end
            continue
        joined = _join_group(words, phrases, phrase)
        if not joined:
            phrases.append(phrase)
    return phrases


def _join_group(words: list[str], phrases: list[Phrase], phrase: Phrase) -> bool:
    if not phrases or phrase.start == 0 or words[phrase.start - 1] != "of":
        return False
    outer = phrases[-1]
    if outer.end != phrase.start - 1 or outer.head not in GROUP_WORDS | PART_WORDS:
        return False
    plural = phrase.plural or (outer.head in GROUP_WORDS and phrase.category in ("person", "animal"))
    phrases[-1] = replace(phrase, start=outer.start, count=None, collective=True, plural=plural)
    return True


def _color(words: list[str], position: int) -> str | None:
    word = words[position] if position < len(words) else ""
    following = words[position + 1] if position + 1 < len(words) else ""
    if word == "golden" and (singular(following) or "") in DOG_BREEDS:
        return None
    word = COLOR_SPELLINGS.get(word, word)
    if word not in COLORS:
        return None
    if word == "orange" and not (
        singular(following) or following in ADJECTIVES or following in ("and", ",", "colored")
    ):
        return None  # the fruit
    return word


def _is_modifier(words: list[str], position: int) -> bool:
    if position >= len(words):
        return False
    word = words[position]
    return word in ADJECTIVES or _color(words, position) is not None


def _names_the_verb(words: list[str], position: int, noun: str) -> bool:
    """Whether a word behind a noun, though also a noun itself, is the sentence's verb here."""
    word, previous = words[position], words[position - 1]
    following = words[position + 1] if position + 1 < len(words) else ""
    plural_subject = previous in SINGULARS and previous not in CATEGORIES
    acts = CATEGORIES[noun] in ("person", "animal")
    if f"{noun}_{singular(word) or word}" in COMPOUNDS:
        return False
    if word in THIRD_PERSONS and not plural_subject:
        return acts or following in PREPOSITIONS or following in DETERMINERS
    return word in BASE_FORMS and plural_subject and (acts or following in PREPOSITIONS)


def _phrase_at(words: list[str], start: int, *, owned: bool = False) -> Phrase | None:
    position, count, determined, possessive, plural_word = start, None, owned, owned, False
    if start >= len(words):
        return None
    if words[position] in DETERMINERS:
        determined = True
        count = 1 if words[position] in ("a", "an", "the", "this", "that", "another", "one") else None
        possessive = words[position] in POSSESSIVES
        position += 1
    if position < len(words) and words[position] in NUMBERS:
        count, determined = NUMBERS[words[position]], True
        position += 1
    colors: list[str] = []
    modifiers: list[str] = []
    noun: str | None = None
    noun_end = position
    while position < len(words):
        word = words[position]
        color = _color(words, position)
        if noun is None and color is not None:
            following = words[position + 1] if position + 1 < len(words) else ""
            if following.endswith(
                ("haired", "shirted", "faced", "eyed", "uniformed", "clad", "trimmed", "collared")
            ):
                modifiers.append(following)
                position += 2
                continue
            colors.append(color)
        elif (
            noun is None
            and word in ("and", ",")
            and (colors or modifiers)
            and _is_modifier(words, position + 1)
        ):
            if (
                word == "and"
                and not (colors and _color(words, position + 1))
                and not _is_modifier(words, position - 1)
            ):
                break
        elif (
            noun is None
            and (word in ADJECTIVES or word == "golden")
            and not (singular(word) and not _continues(words, position + 1))
        ):
            modifiers.append(word)
        elif (found := singular(word)) is not None:
            if noun is not None:
                if _names_the_verb(words, position, noun):
                    break
                modifiers.append(noun)
            elif (
                word in BASE_FORMS | THIRD_PERSONS.keys() and not determined and not modifiers and not colors
            ):
                break  # "rides a bike": a verb, unless something announces a noun
            noun, noun_end, plural_word = found, position + 1, word not in CATEGORIES
        elif noun is not None and word in COVERING and _continues(words, position + 1):
            modifiers.append(noun)  # "a green grass covered field": the colour was the grass's
            noun, colors = None, []
        elif noun is None and determined and _joins_as_adjective(word) and _continues(words, position + 1):
            modifiers.append(word)
        else:
            break
        position += 1
    if noun is None or not _closed(words, noun_end):
        return None
    if plural_word and count == 1:
        count = None
    name = _name(words, noun_end, noun)
    if noun in DOG_BREEDS:
        noun = name = "dog"
    return Phrase(
        start=start,
        end=noun_end,
        head=noun,
        name=name,
        plural=plural_word or (count or 1) > 1 or noun in PLURAL_ONLY,
        count=count if determined else None,
        colors=tuple(dict.fromkeys(colors)),
        modifiers=tuple(modifiers),
        possessive=possessive,
    )


def _continues(words: list[str], position: int) -> bool:
    if position >= len(words):
        return False
    word = words[position]
    return singular(word) is not None or _is_modifier(words, position) or _joins_as_adjective(word)


def _joins_as_adjective(word: str) -> bool:
    """Participles and unknown words between a determiner and a noun: "a smiling woman", "a checkered car"."""
    closed = (
        PREPOSITIONS,
        PRONOUNS,
        AUXILIARIES,
        DETERMINERS,
        ADVERBS,
        {"and", "or", "while", "'s", ",", ";", "of"},
    )
    return not any(word in group for group in closed) and word not in NUMBERS


def _closed(words: list[str], end: int) -> bool:
    """Whether the phrase surely ends here: no unknown word follows that could be its real noun."""
    if end >= len(words):
        return True
    word = words[end]
    known = (
        PREPOSITIONS,
        PRONOUNS,
        AUXILIARIES,
        DETERMINERS,
        ADVERBS,
        ADJECTIVES,
        NUMBERS,
        PARTICIPLES,
        BASE_FORMS,
    )
    if any(word in group for group in known) or word in THIRD_PERSONS or word in PRESENT_PARTICIPLES:
        return True
    if word in (
        "and",
        "or",
        "while",
        "as",
        "'s",
        ",",
        ";",
        "that",
        "but",
        "where",
        "when",
        "then",
        "because",
        "so",
    ):
        return True
    return (
        word.endswith(("ing", "ed", "ly"))
        or singular(word) is not None
        or COLOR_SPELLINGS.get(word, word) in COLORS
    )


def _name(words: list[str], end: int, noun: str) -> str:
    if end < 2:
        return noun
    previous = singular(words[end - 2]) or words[end - 2]
    return f"{previous} {noun}" if f"{previous}_{noun}" in COMPOUNDS else noun
