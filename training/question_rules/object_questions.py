"""Questions that a thing answers: "what is sitting on the bench?", "what is the man holding?"."""

from __future__ import annotations

import random

from training.question_rules.answers import (
    CONCRETE,
    QuestionAnswer,
    be_form,
    is_answer,
    noun_as_written,
    predicate_of,
    subject_label,
)
from training.question_rules.clauses import Clause
from training.question_rules.inflection import ing_form
from training.question_rules.phrases import is_animate
from training.question_rules.scene import Scene
from training.question_rules.vocabulary import EMPTY_VERBS, PARTICIPLES, VAGUE

__all__ = ["ask_object"]

SURFACE_PREPOSITIONS = frozenset("on on_top_of in under over through behind into".split())
IDIOMS = frozenset({("lean", "back"), ("sit", "back"), ("look", "camera"), ("pose", "camera")})


def ask_object(scene: Scene, rng: random.Random) -> list[QuestionAnswer]:
    """ "What is sitting on the bench?", "what is the man holding?", "what is on the table?"."""
    found: list[QuestionAnswer] = []
    for caption in scene.captions:
        if not caption.phrases or caption.phrases[0].start != 0:
            continue
        subject = caption.phrases[0]
        if (
            subject.category in CONCRETE - {"person", "clothing"}
            and subject.head not in VAGUE
            and not subject.possessive
        ):
            predicate = predicate_of(caption, subject)
            if predicate is not None:
                found.append(
                    QuestionAnswer(f"What {predicate}?", noun_as_written(subject, short=True), "object")
                )
    for clause in scene.clauses:
        found.extend(_object_of(clause, rng))
    return found


def _object_of(clause: Clause, rng: random.Random) -> list[QuestionAnswer]:
    if clause.verb in PARTICIPLES or clause.verb in EMPTY_VERBS or clause.joined or not clause.clean:
        return []
    subject = clause.subject
    if not is_animate(subject):
        return _on_what(clause)
    be, who = be_form(subject), subject_label(subject)
    if clause.target is not None:
        game = clause.verb == "play" and clause.target.head in (
            "tennis",
            "soccer",
            "hockey",
            "rugby",
            "golf",
            "game",
        )
        if (not is_answer(clause.target) and not game) or clause.verb == "be" or clause.particle:
            return []
        answer = noun_as_written(clause.target, short=rng.random() < 0.5)
        return [QuestionAnswer(f"What {be} {who} {ing_form(clause.verb)}?", answer, "object")]
    place = clause.place
    if place is None or not is_answer(place) or clause.particle or (clause.verb, place.head) in IDIOMS:
        return []
    if clause.verb == "be":
        if place.category == "clothing" and clause.preposition == "in" and subject.category == "person":
            return [QuestionAnswer(f"What {be} {who} wearing?", noun_as_written(place, short=True), "object")]
        return []
    if (clause.preposition == "at" and clause.verb == "look") or clause.preposition in SURFACE_PREPOSITIONS:
        if place.category in ("body", "room") or clause.verb in ("come", "go"):
            return []
        preposition = clause.preposition.replace("_", " ").replace("on top of", "on")
        answer = noun_as_written(place, short=rng.random() < 0.5)
        return [QuestionAnswer(f"What {be} {who} {ing_form(clause.verb)} {preposition}?", answer, "object")]
    return []


def _on_what(clause: Clause) -> list[QuestionAnswer]:
    """ "What is on the table?" for things that lie, stand or simply are somewhere."""
    place = clause.place
    if place is None or clause.subject.category not in CONCRETE or not is_answer(clause.subject):
        return []
    if clause.verb not in ("be", "sit", "lay", "lie", "rest", "stand") or clause.preposition not in (
        "on",
        "on_top_of",
        "in",
    ):
        return []
    if place.category not in ("furniture", "household", "place", "appliance") or place.head in VAGUE:
        return []
    preposition = "on" if clause.preposition == "on_top_of" else clause.preposition
    if place.head == clause.subject.head:
        return []
    question = f"What is {preposition} the {noun_as_written(place, short=False)}?"
    return [QuestionAnswer(question, noun_as_written(clause.subject, short=False), "object")]
