"""What a clause means in one or two words: activities and sports."""

from __future__ import annotations

from collections.abc import Sequence

from training.question_rules.clauses import Clause
from training.question_rules.inflection import ing_form, plural_of
from training.question_rules.phrases import is_animate
from training.question_rules.vocabulary import ACTIVITIES, DOING_WITH, PLAYED, RIDING, SPORTS

__all__ = ["POSTURES", "activity_of", "sport_of"]

# Postures are answered only where nothing more telling is known, and exclude the others.
POSTURES = frozenset(
    "standing sitting laying kneeling sleeping walking running jumping swimming flying".split()
)


def activity_of(clause: Clause) -> str | None:
    """The activity a clause tells of, as people answer "what is the man doing?", or None."""
    if not is_animate(clause.subject) or not clause.clean:
        return None
    if clause.verb in ("lay", "lie") and clause.target is None:
        return "laying"
    if clause.target is None:
        if clause.verb == "ride" and clause.place is not None and clause.preposition in ("on", "on_top_of"):
            return RIDING.get(clause.place.name) or RIDING.get(clause.place.head)
        return ing_form(clause.verb) if clause.verb in ACTIVITIES else None
    target = clause.target
    if clause.joined:
        return None
    if clause.verb == "ride":
        if target.head == "bike" and {"dirt", "motor"} & {*target.modifiers}:
            return "riding motorcycle"
        answer = RIDING.get(target.head)
        return plural_of(answer) if answer and target.plural and answer.startswith("riding") else answer
    if clause.verb == "play" and target.head in PLAYED:
        return f"playing {plural_of(target.head) if target.head == 'drum' else target.head}"
    if (clause.verb, target.head) in DOING_WITH:
        return f"{ing_form(clause.verb)} {plural_of(target.head) if target.plural else target.head}"
    return None


def sport_of(captions_words: Sequence[frozenset[str]]) -> str | None:
    """The one sport that at least two captions name by a word of its own, or None."""
    named: dict[str, int] = {}
    for words in captions_words:
        for sport, keys in SPORTS.items():
            if keys & words:
                named[sport] = named.get(sport, 0) + 1
    if len(named) != 1:
        return None
    ((sport, mentions),) = named.items()
    return sport if mentions >= 2 else None
