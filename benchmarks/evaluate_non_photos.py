"""Captions of drawn pictures that are no photos: do they name only what is there?"""

from __future__ import annotations

import random
import re
import time
from typing import Any

import numpy as np

from benchmarks.evaluation_report import EvaluatedModel, EvaluationReport, Progress, measure
from benchmarks.non_photo_words import COLORS, NUMBERS
from benchmarks.non_photos import KINDS, NonPhoto, draw_non_photo
from mobile_multimodal.errors import UsageError
from mobile_multimodal.image import LoadedImage
from mobile_multimodal.results import GenerationConfig, TaskRequest

__all__ = ["draw_held_out", "evaluate_non_photos", "untrue_words"]

QUOTED = re.compile(r'"[^"]*"')
WORD = re.compile(r"[a-z]+")
ATTRIBUTES = frozenset((*COLORS, *NUMBERS, "gray", "dark", "light", "colorful", "gradient", "no"))
"""Words that say how something looks or how many there are: untrue where they are wrong, but no thing."""


def draw_held_out(count: int, seed: int) -> list[NonPhoto]:
    """``count`` pictures that training never drew, every kind in turn."""
    return [
        draw_non_photo(KINDS[number % len(KINDS)], random.Random(f"{seed}:{number}"), held_out=True)
        for number in range(count)
    ]


def untrue_words(caption: str, picture: NonPhoto) -> list[str]:
    """Words of a caption that nothing in the picture bears out; what it quotes is not judged."""
    words = WORD.findall(QUOTED.sub("", caption.lower()))
    return [word for word in words if word not in picture.allowed]


def evaluate_non_photos(
    model: EvaluatedModel,
    count: int,
    seed: int,
    generation: GenerationConfig | None = None,
    *,
    progress: Progress | None = None,
) -> EvaluationReport:
    """Shares of held-out pictures, in per cent, whose captions are true.

    ``nothing_invented_percent``: no person or thing is named that is not there.
    ``true_captions_percent``: no colour or number is wrong either.

    Raises:
        UsageError: no pictures.
        MissingExtraError: the packages of the fonts are not installed.
    """
    if count < 1:
        raise UsageError(f"{count} pictures: at least one is needed")
    start = time.perf_counter()
    pictures = draw_held_out(count, seed)
    rows: list[dict[str, Any]] = []
    for number, picture in enumerate(pictures, start=1):
        image = LoadedImage(picture.pixels, f"<{picture.kind}>")
        result = model.run([image], [TaskRequest("caption")], generation)[0][0]
        rows.append(
            {
                "kind": picture.kind,
                "caption": result.text,
                "confidence": result.confidence,
                "untrue": (untrue := untrue_words(result.text, picture)),
                "invented": [word for word in untrue if word not in ATTRIBUTES],
            }
        )
        if progress is not None:
            progress(number, count)
    figures = [
        measure(
            metric,
            "non-photos",
            np.array([not row[fault] for row in rows], dtype=np.float64),
            samples=count,
            scale=100.0,
        )
        for metric, fault in (("nothing_invented_percent", "invented"), ("true_captions_percent", "untrue"))
    ]
    notes = [
        f"{row['kind']}: {row['caption']} (not there: {', '.join(row['untrue'])})"
        for row in rows
        if row["untrue"]
    ]
    return EvaluationReport(
        task="non-photos",
        data=f"{count} drawn pictures, seed {seed}",
        model=model.name,
        recipe=model.recipe,
        sha256=model.sha256,
        images=count,
        seconds=time.perf_counter() - start,
        figures=tuple(figures),
        notes=tuple(notes),
        rows=tuple(rows),
    )
