"""After the build: what the model's confidence is worth, measured on val, and the map that makes it true.

An answer is right as far as VQA accuracy or exact match say so. A caption is right where every thing it
names can be one that somebody named who described the photo; a rule over words judges that, so that
"boat" for a ship is right, and "a man" for nobody is wrong.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.answer_metrics import exact_match, vqa_accuracy
from benchmarks.calibration_metrics import (
    brier_score,
    cross_fitted,
    expected_calibration_error,
    fit_logistic_map,
    reliability_bins,
)
from benchmarks.evaluation_data import parse_caption, parse_question, read_file, read_jsonl
from benchmarks.image_store import ImageStore
from benchmarks.run_rows import run_rows
from mobile_multimodal.confidence import logit
from mobile_multimodal.config import Calibration
from mobile_multimodal.errors import UsageError
from mobile_multimodal.model import MobileMultiModalLLM
from mobile_multimodal.results import TaskRequest
from training.question_rules.negatives import caption_names, caption_word_set
from training.question_rules.relations import may_be_there

__all__ = ["calibrate_model", "choose_limit", "is_borne_out", "measure_confidence", "read_calibration"]

Floats = NDArray[np.float64]
MOST_RIGHT_LOST = 0.02
"""The default limit may hide at most this share of the right results."""
WORTH_HIDING = 1 / 3
"""What a limit hides must be right less often than this, or hiding it helps nobody."""


def is_borne_out(caption: str, references: Sequence[str]) -> bool:
    """Whether everything that a caption names may be something that one of the references names."""
    named = caption_names([caption])
    words = caption_word_set(references)
    return bool(named) and all(may_be_there(name, words) for name in named)


def choose_limit(confidence: Floats, right: Floats) -> float:
    """The highest limit, in hundredths, that hides little of what is right and mostly what is wrong; or 0.

    Below it lie at most 2 % of the right results, and at most a third of what lies there is right.
    """
    chosen = 0.0
    for limit in np.arange(1, 100) / 100:
        hidden = right[confidence < limit]
        if hidden.sum() > MOST_RIGHT_LOST * right.sum():
            break
        if len(hidden) and hidden.mean() <= WORTH_HIDING:
            chosen = float(limit)
    return chosen


def measure_confidence(raw: Floats, right: Floats, photos: Sequence[str]) -> dict[str, Any]:
    """The map of one task, and how far confidences are off without it and with it.

    ``right`` is 0..1 for each result. What is said of "after" is cross-fitted: no photo is judged by a map
    that has seen it.
    """
    scores = np.array([logit(value) for value in raw])
    scale, offset = fit_logistic_map(scores, right)
    after = cross_fitted(scores, right, photos)
    limit = choose_limit(after, right)
    below = after < limit

    def describe(confidence: Floats) -> dict[str, Any]:
        return {
            "expected_calibration_error": expected_calibration_error(confidence, right),
            "brier_score": brier_score(confidence, right),
            "bins": [dataclasses.asdict(part) for part in reliability_bins(confidence, right)],
        }

    return {
        "calibration": dataclasses.asdict(Calibration(scale, offset, limit)),
        "results": len(right),
        "right": float(right.mean()),
        "before": describe(raw),
        "after": describe(after),
        "below_limit": {
            "results": int(below.sum()),
            "right": float(right[below].mean()) if below.any() else None,
        },
    }


def calibrate_model(model: MobileMultiModalLLM, data: Path, output: Path) -> dict[str, Any]:
    """Measure a model whose confidences are raw on ``captions_val.jsonl`` and ``vqa_val.jsonl``.

    Writes ``output``, a JSON file by task, which :func:`read_calibration` reads back.

    Raises:
        UsageError: the model's confidences are calibrated already.
        DataError: a validation file or photo that cannot be read.
    """
    if model.config.calibration:
        raise UsageError(
            f"{model.bundle.directory} is calibrated already", remedy="build it without a calibration first"
        )
    store = ImageStore(data)
    captions = read_jsonl(read_file(data / "captions_val.jsonl"), "captions_val.jsonl", parse_caption, store)
    results = run_rows(model, captions, store, TaskRequest("caption"), batch_size=16)
    report = {
        "caption": measure_confidence(
            np.array([result.confidence for result in results], dtype=np.float64),
            np.array(
                [
                    float(is_borne_out(result.text, [" ".join(words) for words in row.references]))
                    for result, row in zip(results, captions, strict=True)
                ]
            ),
            [row.image for row in captions],
        )
    }
    questions = read_jsonl(read_file(data / "vqa_val.jsonl"), "vqa_val.jsonl", parse_question, store)
    by_image = defaultdict(list)
    for row in questions:
        by_image[row.image].append(row)
    raw, right, photos = [], [], []
    for image, rows in by_image.items():
        loaded = store.load(image, rows[0].where)
        for row, result in zip(rows, model.run([loaded], [row.request for row in rows])[0], strict=True):
            several = len(row.answers) > 1
            raw.append(result.confidence)
            right.append(
                vqa_accuracy(result.text, row.answers)
                if several
                else float(exact_match(result.text, row.answer))
            )
            photos.append(image)
    report["vqa"] = measure_confidence(np.array(raw, dtype=np.float64), np.array(right), photos)
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = output.with_suffix(".tmp")
    temporary.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, output)
    return report


def read_calibration(path: Path) -> Mapping[str, Calibration]:
    """The maps that :func:`calibrate_model` wrote."""
    report = json.loads(path.read_text(encoding="utf-8"))
    return {task: Calibration(**figures["calibration"]) for task, figures in report.items()}
