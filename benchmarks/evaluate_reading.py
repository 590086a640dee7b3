"""Text read from word crops and from whole pages, against what is written there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from benchmarks.evaluation_data import PageRow, WordRow
from benchmarks.evaluation_report import EvaluatedModel, Figure, Progress, measure
from benchmarks.image_store import ImageStore
from benchmarks.intervals import mean, ratio
from benchmarks.text_matching import count_found, count_shared_words, drop_illegible, page_text
from benchmarks.text_metrics import edit_counts, normalize_whitespace
from mobile_multimodal.backends import Backend
from mobile_multimodal.config import ModelConfig
from mobile_multimodal.line_reader import read_boxes
from mobile_multimodal.results import TaskResult
from mobile_multimodal.text_boxes import TextBox

__all__ = ["ReadsLines", "page_figures", "recognize_crops", "recognizer_of", "word_figures"]


@runtime_checkable
class ReadsLines(Protocol):
    """A model whose recognizer can be run by itself; ``MobileMultiModalLLM`` is one."""

    @property
    def backend(self) -> Backend: ...

    @property
    def config(self) -> ModelConfig: ...


def recognizer_of(model: EvaluatedModel) -> ReadsLines | None:
    """The model where its recognizer can be run without the detector, else None."""
    return model if isinstance(model, ReadsLines) and model.config.ocr is not None else None


def recognize_crops(
    model: ReadsLines, rows: Sequence[WordRow], store: ImageStore, progress: Progress | None
) -> list[str]:
    """What the recognizer reads when each picture is one line, without looking for text in it first.

    Raises:
        DataError: a picture that cannot be read.
        ValueError: the model reads no text.
    """
    if model.config.ocr is None:
        raise ValueError("this model has no recognizer")
    texts = []
    for done, row in enumerate(rows, start=1):
        pixels = store.load(row.image, row.where).pixels
        height, width = pixels.shape[:2]
        whole = TextBox((width / 2.0, height / 2.0), float(width), float(height), 0.0, 1.0)
        texts.append(read_boxes(model.backend, pixels, [whole], model.config.ocr)[0].text)
        if progress is not None:
            progress(done, len(rows))
    return texts


def word_figures(
    rows: Sequence[WordRow], texts_by_system: Mapping[str, Sequence[str]]
) -> tuple[list[Figure], list[dict[str, Any]]]:
    """CER and words wholly right by source and for all, with case and without; one output row per word.

    ``texts_by_system`` holds the texts that each system read, in the order of the rows.
    """
    figures: list[Figure] = []
    for group, indices in _groups("words", [row.source for row in rows]).items():
        wanted = [rows[index].text for index in indices]
        for system, texts in texts_by_system.items():
            read = [texts[index] for index in indices]
            for suffix, ignore_case in (("", False), ("_ignoring_case", True)):
                counts = edit_counts(read, wanted, ignore_case=ignore_case)
                figures.append(_percent(f"cer{suffix}_percent", group, counts, ratio, system))
                right = (counts[:, 0] == 0).astype(np.float64)
                figures.append(_percent(f"word_accuracy{suffix}_percent", group, right, mean, system))
    outputs = [
        {"image": row.image, "source": row.source, "expected": row.text}
        | {f"{system} text": normalize_whitespace(texts[index]) for system, texts in texts_by_system.items()}
        for index, row in enumerate(rows)
    ]
    return figures, outputs


def page_figures(
    rows: Sequence[PageRow], results: Sequence[TaskResult]
) -> tuple[list[Figure], list[dict[str, Any]]]:
    """CER, words and boxes found by source and for all, all without case; one output row per page.

    ``cer_ignoring_case_percent`` compares whole pages in reading order, so a line read in another
    place counts as wrong; ``word_recall_percent`` does not ask where a word was read;
    ``end_to_end_recall_percent`` asks for the box (IoU ≥ 0.5) and the exact text.
    """
    judged = [
        drop_illegible(result.regions or (), row.boxes) for row, result in zip(rows, results, strict=True)
    ]
    read = [normalize_whitespace(" ".join(region.text for region in regions)) for regions in judged]
    wanted = [page_text(row.boxes) for row in rows]
    edits = edit_counts(read, wanted, ignore_case=True)
    words = np.array([count_shared_words(*pair) for pair in zip(read, wanted, strict=True)])
    boxes = np.array([count_found(regions, row.boxes) for regions, row in zip(judged, rows, strict=True)])
    figures: list[Figure] = []
    for group, indices in _groups("pages", [row.source for row in rows]).items():
        figures.append(_percent("cer_ignoring_case_percent", group, edits[indices], ratio))
        figures.append(_percent("word_recall_percent", group, words[indices], ratio))
        figures.append(_percent("end_to_end_recall_percent", group, boxes[indices], ratio))
    outputs = [
        {
            "image": row.image,
            "source": row.source,
            "text": read[index],
            "expected": wanted[index],
            "cer_percent": round(100.0 * float(edits[index, 0] / edits[index, 1]), 2),
        }
        for index, row in enumerate(rows)
    ]
    return figures, outputs


def _percent(
    metric: str,
    group: str,
    counts: NDArray[Any],
    statistic: Callable[[NDArray[Any]], float],
    system: str = "model",
) -> Figure:
    return measure(metric, group, counts, statistic, samples=len(counts), system=system, scale=100.0)


def _groups(label: str, sources: Sequence[str]) -> dict[str, list[int]]:
    """Row numbers under the label, and under ``label: source``."""
    groups = {label: list(range(len(sources)))}
    for source in sorted(set(sources)):
        groups[f"{label}: {source}"] = [index for index, name in enumerate(sources) if name == source]
    return groups
