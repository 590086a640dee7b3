"""Questions for a number or a colour on which all captions of an image agree."""

from __future__ import annotations

import random

from training.question_rules.answers import (
    CONCRETE,
    QuestionAnswer,
    be_form,
    noun_as_written,
    predicate_of,
    written,
)
from training.question_rules.inflection import plural_of
from training.question_rules.phrases import Phrase
from training.question_rules.scene import Scene, agreed_colors, agreed_count, people_count
from training.question_rules.vocabulary import CATEGORIES, COLORS, NUMBERS, VAGUE

__all__ = ["ask_color", "ask_number"]

NUMBER_WORDS = {value: word for word, value in reversed(NUMBERS.items()) if not word.isdigit()}
COCO_QA_COLORS = COLORS - {"pink", "tan", "silver", "gold"}
# Their colour is another matter: white wine, a black man, a red light.
UNCOLORED = frozenset("sky wine glasses light orange".split())
UNCOLORED_CATEGORIES = frozenset("person abstract room".split())
# One of a thing is what captions count most; kept whole it would drown the other numbers.
ONE_KEPT = 0.12


def ask_number(scene: Scene, rng: random.Random) -> list[QuestionAnswer]:
    """ "How many dogs are there?" → "2"; "How many dogs are running on a beach?" → "two"."""
    found: list[QuestionAnswer] = []
    endings = ("there", "in the picture", "in the photo", "shown", "visible", "in this picture")
    for name in sorted(scene.mentions):
        category = CATEGORIES[name.split(" ")[-1]]
        if category not in CONCRETE - {"person", "clothing", "food"} or name in VAGUE:
            continue
        count = agreed_count(scene, name)
        if count is not None and (count > 1 or rng.random() < ONE_KEPT):
            found.append(
                QuestionAnswer(f"How many {plural_of(name)} are {rng.choice(endings)}?", str(count), "number")
            )
    people = people_count(scene)
    if people is not None and (people > 1 or rng.random() < ONE_KEPT):
        found.append(QuestionAnswer(f"How many people are {rng.choice(endings)}?", str(people), "number"))
    for caption in scene.captions:
        if not caption.phrases or caption.phrases[0].start != 0 or caption.words[0] not in NUMBERS:
            continue
        subject = caption.phrases[0]
        if subject.count in (None, 1) or subject.collective or not _counts_agree(scene, subject):
            continue
        predicate = predicate_of(caption, subject)
        if predicate is not None and subject.category in CONCRETE:
            question = f"How many {written(caption.words[1 : subject.end])} {predicate}?"
            found.append(QuestionAnswer(question, NUMBER_WORDS[subject.count or 0], "number"))
    return found


def _counts_agree(scene: Scene, subject: Phrase) -> bool:
    """No caption gives another number of things of this category."""
    counts = {
        p.count
        for c in scene.captions
        for p in c.phrases
        if p.category == subject.category and (p.count or 0) > 1
    }
    return counts == {subject.count}


def ask_color(scene: Scene, rng: random.Random) -> list[QuestionAnswer]:
    """ "What is the color of the dog?" → "brown", for things that all captions colour alike."""
    found: list[QuestionAnswer] = []
    for name in sorted(scene.mentions):
        head = name.split(" ")[-1]
        if CATEGORIES[head] in UNCOLORED_CATEGORIES or head in VAGUE or head in UNCOLORED:
            continue
        if CATEGORIES[head] == "body" and head != "hair":
            continue
        colors = agreed_colors(scene, name)
        if not colors or len(colors) > 2:
            continue
        phrase = next(p for phrases in scene.phrases_named(name) for p in phrases if p.colors)
        thing = noun_as_written(phrase, short=False)
        if len(colors) == 1 and colors[0] in COCO_QA_COLORS and rng.random() < 0.5 and head != "hair":
            short = noun_as_written(phrase, short=True)
            found.append(QuestionAnswer(f"What is the color of the {short}?", colors[0], "color"))
        elif CATEGORIES[head] == "clothing" or head == "hair":
            found.extend(_worn_color(scene, name, thing, colors))
        elif len(colors) == 1 or not phrase.plural:
            found.append(
                QuestionAnswer(f"What color {be_form(phrase)} the {thing}?", " and ".join(colors), "color")
            )
    return found


def _worn_color(scene: Scene, name: str, thing: str, colors: tuple[str, ...]) -> list[QuestionAnswer]:
    """ "What color is the man's shirt?", where one kind of person wears it in every caption."""
    owners = {
        clause.subject.head for clause in scene.clauses if name in (_name(clause.target), _name(clause.place))
    }
    if len(owners) != 1 or len({p.head for p in scene.people}) != 1 or any(p.plural for p in scene.people):
        return []
    (owner,) = owners
    be = "are" if thing.endswith("s") and not thing.endswith("ss") else "is"
    return [QuestionAnswer(f"What color {be} the {owner}'s {thing}?", " and ".join(colors), "color")]


def _name(phrase: Phrase | None) -> str:
    return phrase.name if phrase is not None else ""
