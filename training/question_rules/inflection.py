"""English plurals and verb forms by rule, with the exceptions that captions use."""

from __future__ import annotations

from training.question_rules.vocabulary import (
    CATEGORIES,
    IRREGULAR_PLURALS,
    KEEP_FINAL,
    VERBS,
)

__all__ = [
    "BASE_FORMS",
    "PRESENT_PARTICIPLES",
    "SINGULARS",
    "THIRD_PERSONS",
    "article",
    "ing_form",
    "plural_of",
    "third_person",
]

VOWELS = "aeiou"
IRREGULAR_ING = {"lie": "lying", "tie": "tying", "die": "dying", "see": "seeing", "be": "being"}


def ing_form(verb: str) -> str:
    """Present participle of a base verb: "ride" → "riding", "sit" → "sitting"."""
    if verb in IRREGULAR_ING:
        return IRREGULAR_ING[verb]
    if verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")):
        return verb[:-1] + "ing"
    consonant_vowel_consonant = (
        len(verb) > 2 and verb[-1] not in VOWELS + "wxy" and verb[-2] in VOWELS and verb[-3] not in VOWELS
    )
    if verb not in KEEP_FINAL and consonant_vowel_consonant:
        return verb + verb[-1] + "ing"
    return verb + "ing"


def third_person(verb: str) -> str:
    """Third person singular of a base verb: "watch" → "watches", "fly" → "flies"."""
    if verb.endswith(("s", "x", "z", "ch", "sh", "o")):
        return verb + "es"
    if verb.endswith("y") and verb[-2] not in VOWELS:
        return verb[:-1] + "ies"
    return verb + "s"


def plural_of(noun: str) -> str:
    """Plural of a singular noun; of "fire hydrant" the last word alone changes."""
    *first, last = noun.split(" ")
    if last in IRREGULAR_PLURALS:
        changed = IRREGULAR_PLURALS[last]
    elif last.endswith(
        ("pants", "jeans", "shorts", "glasses", "goggles", "scissors", "stairs", "clothes", "skis")
    ):
        changed = last
    elif last.endswith(("s", "x", "z", "ch", "sh")):
        changed = last + "es"
    elif last.endswith("y") and last[-2] not in VOWELS:
        changed = last[:-1] + "ies"
    else:
        changed = last + "s"
    return " ".join([*first, changed])


def article(noun: str) -> str:
    """ "a" or "an", by the first letter ("uniform" and "unicycle" begin with a consonant sound)."""
    return "an" if noun[0] in VOWELS and not noun.startswith(("uni", "ute", "euro", "one")) else "a"


def _singulars(nouns: dict[str, str]) -> dict[str, str]:
    table = {plural_of(noun): noun for noun in nouns}
    table.update({"peoples": "person", "kids": "kid", "veggies": "veggie", "doughnuts": "doughnut"})
    return table


# plural → singular; verb form → base verb
SINGULARS = _singulars(CATEGORIES)
PRESENT_PARTICIPLES = {ing_form(verb): verb for verb in VERBS}
THIRD_PERSONS = {third_person(verb): verb for verb in VERBS}
BASE_FORMS = VERBS
