"""A question with its answer, and how nouns and sentences are written in either.

Two wordings are kept apart, as people and COCO-QA write them: COCO-QA asks with the caption's own
words and answers with one word and number words ("How many dogs are running on a beach?" → "two");
people ask shortly and answer with digits and whole names ("How many dogs are there?" → "2").
"""

from __future__ import annotations

from dataclasses import dataclass

from training.question_rules.clauses import BREAKS, ParsedCaption
from training.question_rules.inflection import BASE_FORMS, PRESENT_PARTICIPLES, THIRD_PERSONS, plural_of
from training.question_rules.phrases import Phrase
from training.question_rules.vocabulary import (
    ADVERBS,
    OPENING_PREPOSITIONS,
    PARTICIPLES,
    PREPOSITIONS,
    PRONOUNS,
    VAGUE,
)

__all__ = [
    "CONCRETE",
    "QuestionAnswer",
    "be_form",
    "is_answer",
    "noun_as_written",
    "predicate_of",
    "subject_label",
    "written",
]

CONCRETE = frozenset("person animal vehicle furniture appliance food sports household clothing".split())


@dataclass(frozen=True)
class QuestionAnswer:
    """A question and its answer (lower-case, no article).

    ``type`` is object, number, color, location, yes/no or other.
    """

    question: str
    answer: str
    type: str


def noun_as_written(phrase: Phrase, *, short: bool) -> str:
    """The phrase's noun, plural where the phrase is: the head alone (COCO-QA's way) or the whole name."""
    noun = phrase.head if short and phrase.name != "hot dog" else phrase.name
    if noun == "french fry" or (noun == "fry" and phrase.plural):
        return "fries" if short else "french fries"
    return plural_of(noun) if phrase.plural else noun


def subject_label(phrase: Phrase) -> str:
    """ "the man", "the dogs"; for people and animals alike."""
    return f"the {noun_as_written(phrase, short=False)}"


def be_form(phrase: Phrase) -> str:
    """ "is" or "are"."""
    return "are" if phrase.plural else "is"


def written(words: tuple[str, ...]) -> str:
    """Words of a parsed caption as a piece of a sentence."""
    return " ".join(words).replace("_", " ").replace(" 's", "'s").replace(" ,", ",")


def _rest(caption: ParsedCaption, start: int, *, most: int = 13) -> tuple[str, ...]:
    """The caption's words from ``start`` up to its next clause; () where they end in the air."""
    end = start
    while end < len(caption.words) and end - start < most:
        word = caption.words[end]
        if word in BREAKS or (
            word == "and" and end + 1 < len(caption.words) and not _starts_phrase(caption, end + 1)
        ):
            break
        end += 1
    if end - start == most:
        return ()
    if not any(phrase.end == end for phrase in caption.phrases):
        return ()
    return caption.words[start:end]


def _starts_phrase(caption: ParsedCaption, position: int) -> bool:
    return any(phrase.start == position for phrase in caption.phrases)


def predicate_of(caption: ParsedCaption, subject: Phrase) -> str | None:
    """The caption behind its subject as the rest of a question: "is sitting on a bench", or None."""
    words = _rest(caption, subject.end)
    if len(words) < 2 or subject.head in {phrase.head for phrase in caption.phrases[1:]}:
        return None
    first = words[0]
    if any(word in PRONOUNS or word in ("another", "other", "'s", "not") for word in words):
        return None
    if first in ("is", "are"):
        agrees = (first == "are") == subject.plural and words[1] not in ("a", "an", "the")
        return written(words) if agrees else None
    if first in PRESENT_PARTICIPLES or (first in PARTICIPLES and first not in ("cut", "set", "built")):
        return f"{be_form(subject)} {written(words)}"
    if first in OPENING_PREPOSITIONS and not {"is", "are", "was", "were"} & set(words):
        return f"{be_form(subject)} {written(words)}"
    if first in ADVERBS or first in PREPOSITIONS:
        return None
    if (first in THIRD_PERSONS and not subject.plural) or (first in BASE_FORMS and subject.plural):
        return written(words)
    return None


def is_answer(phrase: Phrase) -> bool:
    """Whether the phrase's noun answers "what …?" for anyone."""
    return phrase.head not in VAGUE and phrase.category != "abstract" and not phrase.possessive
