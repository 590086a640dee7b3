"""Pictures that are no photos, drawn once for a run: pages, screens, charts, plain grounds, noise."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

from PIL import Image

from benchmarks.non_photos import KINDS, draw_non_photo
from training.data import DRAWN

__all__ = ["TURNS", "draw_pictures"]

TURNS = (*KINDS, "shapes", "shapes", "shapes", "receipt")
"""Every kind in turn; shapes differ among each other more than the pictures of other kinds do."""


def draw_pictures(run: Path, count: int, seed: int) -> Path:
    """Draw ``count`` pictures, by :data:`TURNS`, with captions and questions; kept where they exist.

    A row is ``{"image", "kind", "captions", "questions": [[question, answer]]}``.
    """
    rows_path = run / DRAWN
    if rows_path.exists():
        return rows_path
    (run / "non_photos").mkdir(parents=True, exist_ok=True)
    partial = rows_path.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as stream:
        for number in range(count):
            kind = TURNS[number % len(TURNS)]
            drawn = draw_non_photo(kind, random.Random(f"{seed}:{number}"))
            name = f"non_photos/{number:05d}.png"
            Image.fromarray(drawn.pixels).save(run / name)
            row = {
                "image": name,
                "kind": kind,
                "captions": drawn.captions,
                "questions": drawn.questions,
            }
            stream.write(json.dumps(row) + "\n")
    os.replace(partial, rows_path)
    return rows_path
