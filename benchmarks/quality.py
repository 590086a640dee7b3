"""Quality of captions, answers and read text, in pure Python and numpy: no Java, no network.

Gathers under one name what ``caption_metrics``, ``answer_metrics``, ``text_metrics`` and
``intervals`` hold. Nothing here passes on a missing value: empty inputs raise ``ValueError``.
"""

from __future__ import annotations

from benchmarks.answer_metrics import exact_match, normalize_answer, vqa_accuracy
from benchmarks.caption_metrics import CiderD, bleu, cider_d, tokenize
from benchmarks.intervals import bootstrap_interval
from benchmarks.text_metrics import (
    character_error_rate,
    edit_distance,
    normalize_whitespace,
    word_accuracy,
    word_error_rate,
)

__all__ = [
    "CiderD",
    "bleu",
    "bootstrap_interval",
    "character_error_rate",
    "cider_d",
    "edit_distance",
    "exact_match",
    "normalize_answer",
    "normalize_whitespace",
    "tokenize",
    "vqa_accuracy",
    "word_accuracy",
    "word_error_rate",
]
