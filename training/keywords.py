"""The words that captions are about: the vocabulary of the encoder's word head, and stand-ins for photos.

A decoder that has read only sentences cannot use an image, but it can learn to write a sentence from its
words before it sees the first photo (Fei et al., ViECap, arXiv 2307.16525, from text alone). Sentences
without photos are given some of their own words and some that would stand beside them, as unsure and as
incomplete as those that the encoder will find.
"""

from __future__ import annotations

import os
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.content_words import content_words
from training.data import DRAWN, caption_words, read_rows
from training.prepare import read_class_names

__all__ = ["KeywordSource", "photo_texts", "word_vocabulary"]

MINIMUM_PHOTOS = 20
"""A word of fewer photos is not learned: half of the word head's rows would rest on a handful of them."""


def photo_texts(data: Path) -> dict[str, list[str]]:
    """What the training files say of each photo: its captions, and questions with their answers.

    Answers of yes and no say nothing of what is there, nor do their questions.
    """
    texts: dict[str, list[str]] = defaultdict(list)
    for file in ("captions_train.jsonl", "captions_derived.jsonl"):
        for row in read_rows(data / file):
            texts[row["image"]] += map(caption_words, row["captions"])
    for row in read_rows(data / "vqa_train.jsonl"):
        if row["answer"] not in ("yes", "no"):
            texts[row["image"]].append(f"{row['question']} {row['answer']}".lower())
    return dict(texts)


def word_vocabulary(data: Path, run: Path) -> list[str]:
    """Words of enough training photos, by letter, from ``words.txt``; made and written where it is missing.

    Pictures that were drawn for the run count like photos.
    """
    output = run / "words.txt"
    if output.exists():
        return output.read_text(encoding="utf-8").splitlines()
    texts = photo_texts(data)
    texts.update({row["image"]: row["captions"] for row in read_rows(run / DRAWN)})
    photos: Counter[str] = Counter()
    for sentences in texts.values():
        photos.update({word for sentence in sentences for word in content_words(sentence)})
    words = sorted(word for word, count in photos.items() if count >= MINIMUM_PHOTOS)
    temporary = output.with_suffix(".tmp")
    temporary.write_text("\n".join(words) + "\n", encoding="utf-8")
    os.replace(temporary, output)
    return words


@dataclass(frozen=True)
class KeywordSource:
    """Keywords for sentences: ``mentions`` lists for each vocabulary word the sentences that hold it."""

    sentences: Sequence[str]
    vocabulary: frozenset[str]
    names: Mapping[str, tuple[str, ...]]
    mentions: Mapping[str, Sequence[int]]
    frequent: Sequence[str]

    @classmethod
    def of(cls, sentences: Sequence[str], vocabulary: Iterable[str]) -> KeywordSource:
        """Index these sentences."""
        known = frozenset(vocabulary)
        names: dict[str, list[str]] = defaultdict(list)
        for name in read_class_names():
            names[name.split()[-1]].append(name)
        mentions: dict[str, list[int]] = defaultdict(list)
        frequent: list[str] = []
        for index, sentence in enumerate(sentences):
            words = [word for word in content_words(sentence) if word in known]
            for word in words:
                mentions[word].append(index)
            frequent += words[:1]
        return cls(sentences, known, {k: tuple(v) for k, v in names.items()}, mentions, frequent)

    def draw(self, index: int, rng: random.Random) -> list[str]:
        """Keywords of one sentence, likely ones first; about half of them are not in it.

        Class names come first, as they do for photos: those the sentence holds, and sometimes words too
        rare for the vocabulary, so that the decoder learns to copy what it has never written.
        """
        sentence = self.sentences[index]
        words = content_words(sentence)
        recall = rng.uniform(0.3, 0.95)
        first = [
            name
            for word in words
            for name in self.names.get(word, ())
            if f" {name} " in f" {sentence} " and rng.random() < 0.4
        ]
        first += [word for word in words if word not in self.vocabulary and rng.random() < 0.35]
        ranked = {
            word: rng.gauss(1.0, 1.0) for word in words if word in self.vocabulary and rng.random() < recall
        }
        for _ in range(rng.choice((0, 1, 1, 2))):  # what stands beside it in another sentence
            if not ranked:
                break
            other = rng.choice(self.mentions[rng.choice(list(ranked))])
            for word in content_words(self.sentences[other]):
                if word in self.vocabulary and word not in words and rng.random() < 0.6:
                    ranked.setdefault(word, rng.gauss(0.0, 1.0))
        if rng.random() < 0.3:  # a plain mistake
            ranked.setdefault(rng.choice(self.frequent), rng.gauss(0.0, 1.0))
        return first[:3] + sorted(ranked, key=ranked.__getitem__, reverse=True)
