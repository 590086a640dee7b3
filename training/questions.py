"""Question–answer pairs by rule from photo captions: most of the questions the model is trained on.

Precision comes before recall: a fact is asked for only where the captions of an image state it and
none of them contradicts it. The same seed gives the same questions.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from training.data import read_rows
from training.question_rules.answers import QuestionAnswer
from training.question_rules.count_and_color_questions import ask_color, ask_number
from training.question_rules.negatives import NounSource
from training.question_rules.object_questions import ask_object
from training.question_rules.scene import read_scene
from training.question_rules.scene_questions import ask_location, ask_other
from training.question_rules.yes_no import ask_yes_no

__all__ = [
    "MAX_QUESTIONS",
    "NounSource",
    "QuestionAnswer",
    "build_question_file",
    "build_sentence_questions",
    "generate_questions",
]

MAX_QUESTIONS = 12
# Questions of one kind that an image may have at most, in the order in which they are taken in turn.
_SHARES = {"object": 5, "color": 2, "yes/no": 4, "location": 2, "number": 2, "other": 3}


def generate_questions(
    captions: Sequence[str], *, rng: random.Random, negatives: NounSource
) -> list[QuestionAnswer]:
    """Questions and answers that follow from the captions of one image, at most 12, spread over the kinds.

    Yes/no questions come in pairs, one of each answer. No question is asked twice; where captions
    answer one differently, the answer that most of them give is kept.
    """
    scene = read_scene(captions)
    pools = {
        "object": ask_object(scene, rng),
        "color": ask_color(scene, rng),
        "location": ask_location(scene, rng),
        "number": ask_number(scene, rng),
        "other": ask_other(scene, rng),
    }
    chosen: list[QuestionAnswer] = []
    for kind, pool in pools.items():
        settled = _settle(pool)
        rng.shuffle(settled)
        chosen.extend(_varied(settled, _SHARES[kind]))
    pairs = ask_yes_no(scene, rng, negatives)
    order = list(range(0, len(pairs), 2))
    rng.shuffle(order)
    yes_no: list[QuestionAnswer] = []
    for start in order[: rng.choice((1, _SHARES["yes/no"] // 2))]:
        yes_no.extend(pairs[start : start + 2])
    rng.shuffle(chosen)
    kept = _balanced(chosen, MAX_QUESTIONS - len(yes_no)) + yes_no
    return sorted(kept, key=lambda qa: (list(_SHARES).index(qa.type), qa.question))


def _settle(pool: Sequence[QuestionAnswer]) -> list[QuestionAnswer]:
    """One answer for each question: the most frequent, then the longest, then the first by letter."""
    answers: dict[tuple[str, str], Counter[str]] = {}
    for qa in pool:
        answers.setdefault((qa.question, qa.type), Counter())[qa.answer] += 1
    settled = []
    for (question, kind), counts in answers.items():
        best = max(sorted(counts), key=lambda answer: (counts[answer], len(answer)))
        if kind in ("number", "color") and len(counts) > 1:
            continue
        settled.append(QuestionAnswer(question, best, kind))
    return settled


def _varied(pool: Sequence[QuestionAnswer], most: int) -> list[QuestionAnswer]:
    """Up to ``most`` questions, at most two with the same answer."""
    kept: list[QuestionAnswer] = []
    for qa in pool:
        if len(kept) < most and sum(other.answer == qa.answer for other in kept) < 2:
            kept.append(qa)
    return kept


def _balanced(pool: Sequence[QuestionAnswer], most: int) -> list[QuestionAnswer]:
    """Up to ``most`` questions, the kinds in turn."""
    by_kind = {kind: [qa for qa in pool if qa.type == kind] for kind in _SHARES}
    kept: list[QuestionAnswer] = []
    while len(kept) < most and any(by_kind.values()):
        for queue in by_kind.values():
            if queue and len(kept) < most:
                kept.append(queue.pop(0))
    return kept


def build_question_file(captions_jsonl: Path | Sequence[Path], out_jsonl: Path, seed: int) -> Counter[str]:
    """Write the questions of every image in one or more caption files; returns how many of each type.

    A row is ``{"image", "question", "answer", "type", "source": "derived"}``. Captions of an image that
    stands in several files are taken together. The file is written under a temporary name, then renamed.

    Raises:
        DataError: a caption file cannot be read.
    """
    paths = [captions_jsonl] if isinstance(captions_jsonl, Path) else list(captions_jsonl)
    images: dict[str, list[str]] = {}
    for path in paths:
        for row in read_rows(path):
            images.setdefault(row["image"], []).extend(row["captions"])
    negatives = NounSource.from_captions(images.values())
    counts: Counter[str] = Counter()
    partial = out_jsonl.with_name(out_jsonl.name + ".partial")
    with partial.open("w", encoding="utf-8") as stream:
        for image, captions in images.items():
            rng = random.Random(f"{seed}:{image}")
            for qa in generate_questions(captions, rng=rng, negatives=negatives):
                row = {
                    "image": image,
                    "question": qa.question,
                    "answer": qa.answer,
                    "type": qa.type,
                    "source": "derived",
                }
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")
                counts[qa.type] += 1
    os.replace(partial, out_jsonl)
    return counts


def build_sentence_questions(sentences: Sequence[str], out_jsonl: Path, seed: int) -> Counter[str]:
    """Write questions about sentences that have no photo; returns how many of each type.

    A row is ``{"sentence": index, "question", "answer"}``: of each sentence at most two questions, and of
    every third one about yes or no. The file is written under a temporary name, then renamed.
    """
    negatives = NounSource.from_captions([sentence] for sentence in sentences)
    counts: Counter[str] = Counter()
    partial = out_jsonl.with_name(out_jsonl.name + ".partial")
    rng = random.Random(seed)
    with partial.open("w", encoding="utf-8") as stream:
        for index, sentence in enumerate(sentences):
            pool = generate_questions([sentence], rng=rng, negatives=negatives)
            rng.shuffle(pool)
            telling = [qa for qa in pool if qa.type != "yes/no"][:2]
            for qa in telling + [qa for qa in pool if qa.type == "yes/no"][: int(rng.random() < 1 / 3)]:
                row = {"sentence": index, "question": qa.question, "answer": qa.answer}
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")
                counts[qa.type] += 1
    os.replace(partial, out_jsonl)
    return counts
