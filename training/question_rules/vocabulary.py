"""The word lists of ``vocabulary.toml`` and ``relations.toml`` as sets and tables."""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import Any

__all__ = [
    "ACTIVITIES",
    "ADJECTIVES",
    "ADVERBS",
    "ANIMAL_KINDS",
    "AUXILIARIES",
    "CATEGORIES",
    "COLORS",
    "COLOR_SPELLINGS",
    "COMPOUNDS",
    "CONTAINERS",
    "DETERMINERS",
    "DOG_BREEDS",
    "DOING_WITH",
    "EMPTY_VERBS",
    "EXCLUSIVE",
    "FEMALE",
    "GROUP_WORDS",
    "IRREGULAR_PLURALS",
    "KEEP_FINAL",
    "MALE",
    "NEVER_SALIENT",
    "NUMBERS",
    "OPENING_PREPOSITIONS",
    "PARTICIPLES",
    "PARTICLES",
    "PART_WORDS",
    "PLAYED",
    "PLURAL_ONLY",
    "PREPOSITIONS",
    "PRONOUNS",
    "RELATED_GROUPS",
    "RELATED_TO_ANIMALS",
    "RIDING",
    "ROOMS",
    "SALIENT_THINGS",
    "SPORTS",
    "VAGUE",
    "VERBS",
]


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads(resources.files(__package__).joinpath(name).read_text(encoding="utf-8"))


_TABLE = _read("vocabulary.toml")
_RELATIONS = _read("relations.toml")


def _words(name: str) -> frozenset[str]:
    return frozenset(_TABLE["words"][name].split())


def _categories() -> dict[str, str]:
    table: dict[str, str] = {}
    for category, nouns in _TABLE["nouns"].items():
        for noun in nouns.split():
            table.setdefault(noun, category)
    return table


CATEGORIES = _categories()
COLORS = _words("colors")
COLOR_SPELLINGS: dict[str, str] = _TABLE["color_spellings"]
NUMBERS: dict[str, int] = _TABLE["numbers"]
IRREGULAR_PLURALS: dict[str, str] = _TABLE["irregular_plurals"]
PLURAL_ONLY = _words("plural_only")
MALE = _words("male")
FEMALE = _words("female")
DOG_BREEDS = _words("dog_breeds")
ANIMAL_KINDS: dict[str, str] = _TABLE["animal_kinds"]
CONTAINERS = _words("containers")
GROUP_WORDS = _words("groups")
PART_WORDS = _words("parts")
COMPOUNDS = _words("compounds")
DETERMINERS = _words("determiners")
PRONOUNS = _words("pronouns")
AUXILIARIES = _words("auxiliaries")
PREPOSITIONS = _words("prepositions")
PARTICLES = _words("particles")
ADVERBS = _words("adverbs")
ADJECTIVES = _words("adjectives")
VERBS = _words("verbs")
KEEP_FINAL = _words("keep_final")
PARTICIPLES = _words("participles")
ACTIVITIES = _words("activities")
PLAYED = _words("played")
ROOMS = frozenset(room.replace("_", " ") for room in _words("rooms"))
RIDING: dict[str, str] = _TABLE["riding"]
DOING_WITH = frozenset((verb, noun) for verb, nouns in _TABLE["doing_with"].items() for noun in nouns.split())
SPORTS: dict[str, frozenset[str]] = {k: frozenset(words.split()) for k, words in _TABLE["sports"].items()}
VAGUE = _words("vague")
OPENING_PREPOSITIONS = _words("opening_prepositions")
EMPTY_VERBS = _words("empty_verbs")
SALIENT_THINGS = _words("salient_things")
NEVER_SALIENT = _words("never_salient")
EXCLUSIVE: dict[str, tuple[str, ...]] = {k: tuple(w.split()) for k, w in _RELATIONS["exclusive"].items()}
RELATED_GROUPS = tuple(frozenset(group.split()) for group in _RELATIONS["groups"])
RELATED_TO_ANIMALS = frozenset(_RELATIONS["animals"].split())
