"""Questions for a place ("where is the cat sitting?"), an activity, and what the whole picture shows."""

from __future__ import annotations

import random

from training.question_rules.activities import POSTURES, activity_of, sport_of
from training.question_rules.answers import (
    CONCRETE,
    QuestionAnswer,
    be_form,
    is_answer,
    noun_as_written,
    subject_label,
)
from training.question_rules.clauses import Clause
from training.question_rules.inflection import article, ing_form
from training.question_rules.phrases import Phrase, is_animate
from training.question_rules.scene import Scene, people_count
from training.question_rules.vocabulary import (
    ANIMAL_KINDS,
    CONTAINERS,
    EMPTY_VERBS,
    FEMALE,
    MALE,
    PARTICIPLES,
    ROOMS,
    VAGUE,
)

__all__ = ["ask_location", "ask_other"]

PLACE_PREPOSITIONS = {
    "in": frozenset("place room furniture vehicle".split()),
    "inside": frozenset("place room furniture vehicle".split()),
    "inside_of": frozenset("place room furniture vehicle".split()),
    "on": frozenset("place furniture".split()),
    "on_top_of": frozenset("place furniture vehicle".split()),
    "at": frozenset("place room furniture".split()),
    "in_the_middle_of": frozenset("place room".split()),
}
ANIMAL_QUESTIONS = (
    "What animal is this?",
    "What kind of animal is this?",
    "What type of animal is this?",
    "What animal is in the picture?",
    "What kind of animal is shown?",
)
# Verbs whose place is not where their subject is.
POINTING_VERBS = frozenset(
    "look reach point throw toss stare talk come go peer gaze glance peek listen pass serve pitch".split()
)


def ask_location(scene: Scene, rng: random.Random) -> list[QuestionAnswer]:
    """ "Where is the cat sitting?" → "bed"."""
    found: list[QuestionAnswer] = []
    for clause in scene.clauses:
        place = clause.place
        if place is None or place.head in VAGUE or place.possessive or not _is_where(clause, place):
            continue
        doing = _doing(clause)
        if doing is not None:
            question = f"Where {be_form(clause.subject)} {subject_label(clause.subject)}{doing}?"
            found.append(
                QuestionAnswer(question, noun_as_written(place, short=rng.random() < 0.6), "location")
            )
    return found


def _is_where(clause: Clause, place: Phrase) -> bool:
    """Whether the clause's place tells where its subject is."""
    subject = clause.subject
    if subject.category not in CONCRETE - {"clothing"} or subject.head in VAGUE or subject.possessive:
        return False
    if clause.joined or clause.verb in POINTING_VERBS:
        return False
    if place.head in CONTAINERS and clause.preposition in ("in", "inside"):
        return subject.category != "person"
    return place.category in PLACE_PREPOSITIONS.get(clause.preposition, frozenset())


def _doing(clause: Clause) -> str | None:
    """ " riding a bike" for the end of "where is the man …?", empty for a bare "where is the man?"."""
    target = clause.target
    if target is None:
        if clause.particle:
            return None
        if clause.verb == "be":
            return ""
        return f" {clause.verb if clause.verb in PARTICIPLES else ing_form(clause.verb)}"
    if not is_answer(target) or target.category not in CONCRETE or target.colors:
        return None
    if clause.verb in EMPTY_VERBS or clause.verb in ("hold", "wear"):
        return None
    noun = noun_as_written(target, short=False)
    return f" {ing_form(clause.verb)} {noun if target.plural else f'{article(noun)} {noun}'}"


def ask_other(scene: Scene, rng: random.Random) -> list[QuestionAnswer]:
    """What the man is doing, and which animal, room, sport, food or vehicle this is, in people's wording."""
    found: list[QuestionAnswer] = []
    for clause in scene.clauses:
        answer = activity_of(clause)
        if answer is not None and (answer not in POSTURES or rng.random() < 0.6):
            question = f"What {be_form(clause.subject)} {subject_label(clause.subject)} doing?"
            found.append(QuestionAnswer(question, answer, "other"))
    if (animal := _only_one(scene, "animal", 2)) is not None:
        found.append(QuestionAnswer(rng.choice(ANIMAL_QUESTIONS), animal, "other"))
    if (vehicle := _only_one(scene, "vehicle", 3)) is not None:
        wording = rng.choice(("What kind of vehicle is this?", "What vehicle is shown?"))
        found.append(QuestionAnswer(wording, vehicle, "other"))
    rooms = [name for name in scene.mentions if name in ROOMS]
    if len(rooms) == 1 and scene.mentions[rooms[0]] >= 2:
        wording = rng.choice(("What room is this?", "What kind of room is this?"))
        found.append(QuestionAnswer(wording, rooms[0], "other"))
    sport = sport_of(scene.caption_words)
    animals = any(phrase.category == "animal" for caption in scene.captions for phrase in caption.phrases)
    if sport is not None and scene.people and not animals:
        wording = rng.choice(("What sport is this?", "What sport is being played?", "What sport is shown?"))
        found.append(QuestionAnswer(wording, sport, "other"))
    heads = {p.head for p in scene.people}
    if len(heads) == 1 and people_count(scene) == 1:
        gender = "male" if heads <= MALE else "female" if heads <= FEMALE else None
        (head,) = heads
        if gender is not None and rng.random() < 0.5:
            found.append(QuestionAnswer("Is the person male or female?", gender, "other"))
        elif head in ("man", "woman"):
            found.append(QuestionAnswer("Is this a man or a woman?", head, "other"))
    return found


def _only_one(scene: Scene, category: str, least: int) -> str | None:
    """The one kind of live animal, or of vehicle, that the captions name, if enough of them do."""
    kinds: set[str] = set()
    mentions = 0
    for caption in scene.captions:
        phrases = [p for p in caption.phrases if p.category == category]
        kinds.update(
            ANIMAL_KINDS.get(p.head, p.head) for p in phrases if p.head not in ("animal", "pet", "vehicle")
        )
        mentions += bool(phrases) and all(is_animate(p) or category != "animal" for p in phrases)
    if category == "animal" and "hot dog" in scene.mentions:
        return None
    return next(iter(kinds)) if len(kinds) == 1 and mentions >= least else None
