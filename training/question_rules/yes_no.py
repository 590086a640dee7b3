"""Yes/no questions, as many "no" as "yes", every "no" safe against what the captions say."""

from __future__ import annotations

import random
from collections.abc import Sequence

from training.question_rules.activities import activity_of
from training.question_rules.answers import QuestionAnswer, noun_as_written, subject_label
from training.question_rules.inflection import article, ing_form, plural_of
from training.question_rules.negatives import NounSource
from training.question_rules.phrases import is_animate
from training.question_rules.relations import may_be_there
from training.question_rules.scene import Scene, agreed_colors, people_count
from training.question_rules.vocabulary import CATEGORIES, EXCLUSIVE, PARTICIPLES, ROOMS

__all__ = ["ask_yes_no"]

_EXISTENCE_WORDINGS = (
    "Is there {one} in the picture?",
    "Is there {one}?",
    "Is there {one} in the photo?",
    "Do you see {one}?",
    "Can you see {one}?",
    "Are there any {many} in the picture?",
    "Are there any {many}?",
    "Is there {one} in this picture?",
)
_RIDES = ("horse", "bicycle", "motorcycle", "skateboard", "surfboard", "elephant", "snowboard")
_HELD = (
    "umbrella",
    "frisbee",
    "surfboard",
    "kite",
    "guitar",
    "tennis racket",
    "baseball bat",
    "skateboard",
    "pizza",
    "cat",
)
_WORN = ("suit", "tie", "wetsuit", "apron", "costume", "scarf")
_EATEN = ("pizza", "banana", "sandwich", "cake", "donut", "apple", "hot dog")
_OTHER_ROOMS = {
    "kitchen": ("bathroom", "bedroom"),
    "bathroom": ("kitchen", "bedroom"),
    "bedroom": ("kitchen", "bathroom"),
    "living room": ("kitchen", "bathroom"),
    "dining room": ("bathroom", "bedroom"),
}
# Colours that one may be taken for another.
_COLOR_NEIGHBOURS = tuple(
    frozenset(colors.split())
    for colors in (
        "red orange pink brown",
        "brown tan gold orange yellow",
        "gray silver white blue black",
        "purple blue pink",
        "green blue",
        "white tan yellow",
        "black brown blue",
    )
)
_ASKED_COLORS = "white red black green yellow blue purple orange pink".split()


def ask_yes_no(scene: Scene, rng: random.Random, negatives: NounSource) -> list[QuestionAnswer]:
    """Yes/no questions in pairs: after each "yes" comes a "no" of the same rule; no safe "no", no pair."""
    found: list[QuestionAnswer] = []
    for ask in (_existence, _doing, _objects, _colors, _rooms):
        yes, no = ask(scene, rng, negatives)
        rng.shuffle(yes)
        rng.shuffle(no)
        for question, refusal in zip(yes[:2], no[:2], strict=False):
            found.append(QuestionAnswer(question, "yes", "yes/no"))
            found.append(QuestionAnswer(refusal, "no", "yes/no"))
    return found


def _existence_question(noun: str, rng: random.Random) -> str:
    many, one = plural_of(noun), f"{article(noun)} {noun}"
    if noun in ("ski", "cattle"):
        return f"Are there any {many} in the picture?"
    return rng.choice(_EXISTENCE_WORDINGS).format(one=one, many=many)


def _existence(scene: Scene, rng: random.Random, negatives: NounSource) -> tuple[list[str], list[str]]:
    salient = set(negatives.nouns)
    present = [
        name
        for name, n in sorted(scene.mentions.items())
        if name in salient and (n >= 2 or len(scene.captions) == 1)
    ]
    things = [name for name in present if CATEGORIES[name.split(" ")[-1]] != "person"]
    if things and rng.random() < 0.7:
        present = things  # people are in most photos: asked for each time, "is there a man?" would mean "yes"
    absent = negatives.absent(sorted(scene.mentions), scene.words, rng, 3, people=len(scene.captions) >= 4)
    return [_existence_question(n, rng) for n in present], [_existence_question(n, rng) for n in absent]


def _doing(scene: Scene, rng: random.Random, negatives: NounSource) -> tuple[list[str], list[str]]:
    """ "Is the man surfing?"; a "no" needs a single subject and an activity that the told ones exclude."""
    yes: list[str] = []
    no: list[str] = []
    subjects = {clause.subject.name for clause in scene.clauses if is_animate(clause.subject)}
    doings = {a for clause in scene.clauses if (a := activity_of(clause)) is not None}
    alone = (
        len(subjects) == 1
        and len({p.category for c in scene.captions for p in c.phrases if is_animate(p)}) == 1
    )
    for clause in scene.clauses:
        answer = activity_of(clause)
        if answer is None or " " in answer:
            continue
        be, who = ("Are" if clause.subject.plural else "Is"), subject_label(clause.subject)
        yes.append(f"{be} {who} {answer}?")
        if not alone or clause.subject.plural or clause.subject.collective:
            continue
        others = {other for real in doings for other in EXCLUSIVE.get(real, ())}
        no.extend(f"{be} {who} {other}?" for other in others if not _hinted(other, doings, scene))
    return sorted(set(yes)), sorted(set(no))


def _hinted(activity: str, doings: set[str], scene: Scene) -> bool:
    """Whether any caption speaks of this activity, under any form of the verb."""
    stem = activity[:-3]
    stems = {stem, stem[:-1]} if len(stem) > 3 and stem[-1] == stem[-2] else {stem}
    if activity in doings or any(word.startswith(tuple(stems)) for word in scene.words):
        return True
    return {"sitting": "seated", "sleeping": "asleep", "laying": "lying"}.get(
        activity, activity
    ) in scene.words


def _objects(scene: Scene, rng: random.Random, negatives: NounSource) -> tuple[list[str], list[str]]:
    """ "Is the man riding a horse?", with other rides, foods, tools or garments for "no"."""
    yes: list[str] = []
    no: list[str] = []
    single = people_count(scene) == 1
    for clause in scene.clauses:
        target, subject = clause.target, clause.subject
        if (
            target is None
            or not is_animate(subject)
            or clause.verb in PARTICIPLES
            or clause.verb in ("have", "be")
        ):
            continue
        others = {"ride": _RIDES, "hold": _HELD, "wear": _WORN, "eat": _EATEN, "carry": _HELD}.get(
            clause.verb
        )
        if others is None or clause.joined or target.possessive or CATEGORIES[target.head] == "abstract":
            continue
        be, who, doing = ("Are" if subject.plural else "Is"), subject_label(subject), ing_form(clause.verb)
        noun = noun_as_written(target, short=False)
        mass = (target.category == "food" and target.count is None) or target.count is None
        yes.append(f"{be} {who} {doing} {noun if target.plural or mass else f'{article(noun)} {noun}'}?")
        if not single and clause.verb in ("wear", "hold", "carry"):
            continue
        absent = (other for other in others if not may_be_there(other, scene.words))
        no.extend(f"{be} {who} {doing} {article(other)} {other}?" for other in absent)
    return sorted(set(yes)), sorted(set(no))


def _colors(scene: Scene, rng: random.Random, negatives: NounSource) -> tuple[list[str], list[str]]:
    """ "Is the dog brown?", for things of one agreed colour; "no" names a colour that no caption does."""
    yes: list[str] = []
    no: list[str] = []
    for name in sorted(scene.mentions):
        category = CATEGORIES[name.split(" ")[-1]]
        if category not in ("animal", "vehicle", "furniture", "household", "appliance", "clothing", "sports"):
            continue
        colors = agreed_colors(scene, name)
        phrases = [p for group in scene.phrases_named(name) for p in group]
        if len(colors) != 1 or phrases[0].plural:
            continue
        (color,) = colors
        near = frozenset().union(*(group for group in _COLOR_NEIGHBOURS if color in group), {color})
        free = [
            c
            for c in ("white", "red", "black", "green", "yellow", "blue", "purple", "orange", "pink")
            if c not in near
        ]
        free = [c for c in free if c not in scene.words]
        yes.append(f"Is the {name} {color}?")
        if free:
            no.append(f"Is the {name} {rng.choice(free)}?")
    return yes, no


def _rooms(scene: Scene, rng: random.Random, negatives: NounSource) -> tuple[list[str], list[str]]:
    """ "Is this a kitchen?", where the captions name exactly one room."""
    rooms: Sequence[str] = sorted(name for name in scene.mentions if name in ROOMS)
    if len(rooms) != 1 or scene.mentions[rooms[0]] < 2 or "room" in scene.mentions:
        return [], []
    others = _OTHER_ROOMS.get(rooms[0], ("bathroom",))
    safe = [room for room in others if not {room, "hotel", "studio", "apartment"} & scene.words]
    return [f"Is this {article(rooms[0])} {rooms[0]}?"], [f"Is this {article(room)} {room}?" for room in safe]
