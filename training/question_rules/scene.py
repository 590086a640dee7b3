"""What all captions of one image say together: the agreement that keeps wrong answers out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from training.question_rules.clauses import Clause, ParsedCaption, parse_caption
from training.question_rules.negatives import caption_names, caption_word_set
from training.question_rules.phrases import Phrase, is_animate
from training.question_rules.relations import normal_words, related_to
from training.question_rules.vocabulary import CATEGORIES

__all__ = ["Scene", "agreed_colors", "agreed_count", "people_count", "read_scene"]

MANY_WORDS = frozenset("several many group groups crowd bunch various third".split())
MORE_WORDS = frozenset("another other others several each many group groups crowd bunch various".split())


@dataclass(frozen=True)
class Scene:
    """Parsed captions of one image.

    ``mentions`` counts captions per noun name, ``words`` are the normal words of all of them.
    """

    captions: tuple[ParsedCaption, ...]
    mentions: Counter[str]
    words: frozenset[str]
    caption_words: tuple[frozenset[str], ...]

    @property
    def clauses(self) -> list[Clause]:
        """Clauses of all captions, in order."""
        return [clause for caption in self.captions for clause in caption.clauses]

    def phrases_named(self, name: str) -> list[list[Phrase]]:
        """Phrases with this name, one list per caption that has any."""
        found = [[phrase for phrase in caption.phrases if phrase.name == name] for caption in self.captions]
        return [phrases for phrases in found if phrases]

    @property
    def people(self) -> list[Phrase]:
        """Every phrase that names people, in all captions."""
        return [p for caption in self.captions for p in caption.phrases if p.category == "person"]


def read_scene(captions: Sequence[str]) -> Scene:
    """Parse the captions of one image."""
    parsed = tuple(parse_caption(caption) for caption in captions)
    return Scene(
        captions=parsed,
        mentions=caption_names(captions),
        words=caption_word_set(captions),
        caption_words=tuple(normal_words(list(caption.words)) for caption in parsed),
    )


def agreed_count(scene: Scene, name: str) -> int | None:
    """How many of ``name`` there are, where every caption that counts it or a relative of it agrees.

    Two or more need a number word; "dogs" alone does not contradict it, "a dog" does. One needs three
    captions that say "a dog" and no word such as "another".
    """
    category = CATEGORIES[name.split(" ")[-1]]
    relatives = related_to(name)
    counts: set[int | None] = set()
    for other in scene.mentions:
        if other != name and (CATEGORIES[other.split(" ")[-1]] != category or other not in relatives):
            continue
        for phrases in scene.phrases_named(other):
            if len(phrases) > 1 or phrases[0].collective:
                return None
            counts.add(phrases[0].count)
    known = counts - {None}
    if len(known) != 1:
        return None
    (count,) = known
    if count == 1:
        return 1 if counts == {1} and scene.mentions[name] >= 3 and not scene.words & MORE_WORDS else None
    return None if scene.words & MANY_WORDS else count


def people_count(scene: Scene) -> int | None:
    """How many people there are: each caption's sum, where two captions or more agree and none differs."""
    totals: list[int] = []
    for caption in scene.captions:
        people = [phrase for phrase in caption.phrases if phrase.category == "person"]
        if not people:
            continue
        heads = [phrase.head for phrase in people]
        counts = [phrase.count for phrase in people]
        if any(p.plural and p.count is None and not p.collective for p in people):
            continue  # "women": as many as the others say
        if len(set(heads)) != len(heads) or any(p.collective for p in people) or None in counts:
            return None
        totals.append(sum(count for count in counts if count is not None))
    if len(set(totals)) != 1 or scene.words & (MORE_WORDS if totals[0] == 1 else MANY_WORDS):
        return None
    if totals[0] == 1 and any(p.plural for p in scene.people):
        return None
    needed = 3 if totals[0] == 1 else 2
    return totals[0] if len(totals) >= needed else None


def agreed_colors(scene: Scene, name: str) -> tuple[str, ...]:
    """The colours of the one thing called ``name``; () where captions differ or speak of several."""
    seen: set[tuple[str, ...]] = set()
    plurals: set[bool] = set()
    for phrases in scene.phrases_named(name):
        if len(phrases) > 1:
            return ()
        plurals.add(phrases[0].plural)
        if phrases[0].colors:
            seen.add(tuple(sorted(phrases[0].colors)))
    if len(seen) != 1 or len(plurals) != 1:
        return ()
    if CATEGORIES[name.split(" ")[-1]] == "animal":
        others = {
            p.name for c in scene.captions for p in c.phrases if is_animate(p) and p.category == "animal"
        }
        colored = {p.colors for c in scene.captions for p in c.phrases if p.category == "animal" and p.colors}
        if len(others) > 1 and len(colored) > 1:
            return ()
    return next(phrases[0].colors for phrases in scene.phrases_named(name) if phrases[0].colors)
