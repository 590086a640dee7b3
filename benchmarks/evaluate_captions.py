"""Captions against people's captions: CIDEr-D, BLEU-4, how long and how varied they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.caption_metrics import CiderD, bleu_of_counts, sentence_bleu_counts, tokenize
from benchmarks.content_words import repeated_words
from benchmarks.evaluation_data import CaptionRow
from benchmarks.evaluation_report import Figure, measure
from mobile_multimodal.errors import DataError

__all__ = ["caption_figures"]


def caption_figures(
    rows: Sequence[CaptionRow], captions: Sequence[str]
) -> tuple[list[Figure], list[str], list[dict[str, Any]]]:
    """Figures for each source and for all, notes, and one output row per picture.

    Each source counts as a set of its own: its document frequencies come from its references alone.

    Raises:
        DataError: fewer than two pictures.
    """
    if len(rows) < 2:
        raise DataError("CIDEr-D needs at least two pictures with captions", remedy="raise --limit")
    hypotheses = [tokenize(caption) for caption in captions]
    notes = ["CIDEr-D and BLEU-4 are × 100; each source is scored with its own document frequencies"]
    groups = {"all": list(range(len(rows)))}
    for source in sorted({row.source for row in rows}):
        groups[source] = [index for index, row in enumerate(rows) if row.source == source]
    figures: list[Figure] = []
    for group, indices in groups.items():
        if len(indices) < 2:
            notes.append(f"{group}: one picture only, not scored by itself")
            continue
        references = [rows[index].references for index in indices]
        found = [hypotheses[index] for index in indices]
        count = len(indices)
        scores = CiderD(references).scores(found)
        figures.append(measure("cider_d", group, scores, samples=count, scale=100.0))
        counts = np.array([sentence_bleu_counts(*pair) for pair in zip(found, references, strict=True)])
        figures.append(measure("bleu_4", group, counts, _bleu_of_rows, samples=count))
        lengths = np.array([len(tokens) for tokens in found])
        figures.append(measure("mean_caption_tokens", group, lengths, samples=count))
        repeating = np.array([bool(repeated_words(tokens)) for tokens in found], dtype=np.float64)
        figures.append(measure("repeated_word_percent", group, repeating, samples=count, scale=100.0))
        distinct = 100.0 * len(set(found)) / count
        # No interval: resampling repeats captions, so it cannot say how many are distinct.
        figures.append(Figure("distinct_captions_percent", group, "model", distinct, None, None, count))
    scores = CiderD([row.references for row in rows]).scores(hypotheses)
    outputs = [
        {
            "image": row.image,
            "source": row.source,
            "caption": caption,
            "cider_d": round(100.0 * float(score), 2),
        }
        for row, caption, score in zip(rows, captions, scores, strict=True)
    ]
    return figures, notes, outputs


def _bleu_of_rows(counts: NDArray[np.int64]) -> float:
    return bleu_of_counts(counts.sum(axis=0))
