"""Quality of captions, answers and read text, in pure Python and numpy: no Java, no network.

The metrics live in ``caption_metrics``; this module gathers them under one name.
"""

from __future__ import annotations

from benchmarks.caption_metrics import CiderD, bleu, cider_d, tokenize

__all__ = ["CiderD", "bleu", "cider_d", "tokenize"]
