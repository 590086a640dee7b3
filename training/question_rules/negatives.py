"""Nouns to ask about that are not in a photo: frequent in the corpus, unlikely here, never contradicted."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from training.question_rules.clauses import parse_caption
from training.question_rules.relations import may_be_there, normal_words
from training.question_rules.vocabulary import CATEGORIES, NEVER_SALIENT, SALIENT_THINGS

__all__ = ["NounSource", "caption_names", "caption_word_set"]

# What captions name when it is there: absence from five captions means absence from the photo.
SALIENT = frozenset("animal vehicle sports food furniture appliance".split())
# Captions may leave these out where they belong: to deny one, nothing that goes with it may be mentioned.
EASILY_UNMENTIONED = frozenset("furniture appliance food household vehicle".split())
LIKELY_TOGETHER = 0.015
MINIMUM_MENTIONS = 15


def caption_names(captions: Sequence[str]) -> Counter[str]:
    """How many of the captions mention each noun (compound names as such)."""
    counts: Counter[str] = Counter()
    for caption in captions:
        counts.update({phrase.name for phrase in parse_caption(caption).phrases})
    return counts


def caption_word_set(captions: Sequence[str]) -> frozenset[str]:
    """All normal words of an image's captions; see ``normal_words``."""
    found: set[str] = set()
    for caption in captions:
        found |= normal_words(list(parse_caption(caption).words))
        found |= normal_words(caption.lower().replace(".", " ").replace(",", " ").split())
    return frozenset(found)


def _is_salient(name: str) -> bool:
    head = name.split(" ")[-1]
    if name.replace(" ", "-") in SALIENT_THINGS:
        return True
    return CATEGORIES[head] in SALIENT and head not in NEVER_SALIENT


@dataclass(frozen=True)
class NounSource:
    """Salient nouns with the number of images that mention them, and the pairs that occur together.

    ``likely`` holds (mentioned, noun) pairs with P(noun | mentioned) ≥ 0.015.
    """

    nouns: tuple[str, ...]
    weights: tuple[int, ...]
    likely: frozenset[tuple[str, str]]

    @classmethod
    def from_captions(cls, images: Iterable[Sequence[str]]) -> NounSource:
        """Count nouns over a corpus; ``images`` yields the captions of one image each."""
        mentions: Counter[str] = Counter()
        pairs: Counter[tuple[str, str]] = Counter()
        for captions in images:
            names = sorted(caption_names(captions))
            mentions.update(names)
            salient = [name for name in names if _is_salient(name)]
            pairs.update((other, name) for name in salient for other in names if other != name)
        kept = sorted(name for name, n in mentions.items() if n >= MINIMUM_MENTIONS and _is_salient(name))
        likely = frozenset(
            pair for pair, n in pairs.items() if n >= 2 and n / mentions[pair[0]] >= LIKELY_TOGETHER
        )
        return cls(tuple(kept), tuple(mentions[name] for name in kept), likely)

    def is_absent(self, noun: str, names: Iterable[str], words: frozenset[str]) -> bool:
        """Whether an image with these noun names and words surely shows no ``noun``."""
        if may_be_there(noun, words):
            return False
        if CATEGORIES[noun.split(" ")[-1]] not in EASILY_UNMENTIONED:
            return True
        return not any((name, noun) in self.likely for name in names)

    def absent(
        self,
        names: Sequence[str],
        words: frozenset[str],
        rng: random.Random,
        count: int,
        *,
        people: bool = True,
    ) -> list[str]:
        """Up to ``count`` different nouns that are not in the image, drawn by frequency.

        One or two captions may well leave a passer-by out: ``people=False`` leaves people out.
        """
        found: list[str] = []
        if not self.nouns:
            return found
        for noun in rng.choices(self.nouns, self.weights, k=12 * count):
            if noun in found or (not people and CATEGORIES[noun.split(" ")[-1]] == "person"):
                continue
            if self.is_absent(noun, names, words):
                found.append(noun)
                if len(found) == count:
                    break
        return found
