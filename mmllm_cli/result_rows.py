"""From a task's result to its JSON row and to the line that a person reads."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mmllm_cli.console import dim, one_line
from mmllm_cli.errors_to_exit import error_row
from mmllm_cli.picture_tasks import PictureOutcome
from mobile_multimodal.errors import MmllmError
from mobile_multimodal.results import TaskResult, TextRegion

__all__ = ["Verdict", "failed_row", "judge", "result_row", "results_row", "spoken"]


@dataclass(frozen=True)
class Verdict:
    """A result and whether it stands; one that does not keeps its confidence and is told as "not sure".

    ``limit`` is the confidence that it was held to.
    """

    result: TaskResult
    is_sure: bool
    limit: float


def judge(result: TaskResult, min_confidence: float) -> Verdict:
    """Abstain below ``min_confidence``: from lines of text one by one, from a caption or an answer whole."""
    if result.confidence is None or not min_confidence:
        return Verdict(result, True, min_confidence)
    if not result.regions:
        return Verdict(result, result.confidence >= min_confidence, min_confidence)
    kept = tuple(region for region in result.regions if region.confidence >= min_confidence)
    if len(kept) == len(result.regions):
        return Verdict(result, True, min_confidence)
    if not kept:
        return Verdict(dataclasses.replace(result, regions=()), False, min_confidence)
    from mobile_multimodal.ocr_formats import to_text

    # The mean over characters, as the task itself gives it.
    characters = [len(region.text) for region in kept]
    confidence = sum(map(operator.mul, characters, (region.confidence for region in kept))) / sum(characters)
    read = dataclasses.replace(result, text=to_text(kept), regions=kept, confidence=confidence)
    return Verdict(read, True, min_confidence)


def result_row(outcome: PictureOutcome, verdict: Verdict, model: str) -> dict[str, Any]:
    """The JSON row of one task on one picture."""
    fields = _task_fields(verdict)
    fields["timings_ms"] = {"read": round(outcome.read_ms, 3), **fields["timings_ms"]}
    return {"image": outcome.picture.name, **fields, "model": model, "notes": _notes(outcome)}


def results_row(outcome: PictureOutcome, verdicts: Sequence[Verdict], model: str) -> dict[str, Any]:
    """The JSON row of several tasks on one picture, under ``results``."""
    results = [_task_fields(verdict) for verdict in verdicts]
    return {
        "image": outcome.picture.name,
        "results": results,
        "model": model,
        "timings_ms": {"read": round(outcome.read_ms, 3)},
        "notes": _notes(outcome),
    }


def failed_row(outcome: PictureOutcome, error: MmllmError) -> dict[str, Any]:
    """The JSON row of a picture that was refused."""
    return {"image": outcome.picture.name, "error": error_row(error)}


def spoken(verdict: Verdict, *, with_confidence: bool) -> str:
    """What a person reads: the text, or that it is not sure; the confidence dimly behind it on a terminal."""
    result = verdict.result
    if not verdict.is_sure:
        return _abstention(result.confidence or 0.0, verdict.limit)
    text = "\n".join(one_line(line) for line in result.text.splitlines())
    if not with_confidence or result.confidence is None or result.task == "ocr":
        return text
    return text + dim(f"  ({result.confidence:.2f})")


def _abstention(confidence: float, limit: float) -> str:
    """With as many digits as it takes to see that the one is below the other."""
    shown = ((f"{confidence:.{digits}f}", f"{limit:.{digits}f}") for digits in (2, 3, 4, 6, 9, 16))
    below, above = next((pair for pair in shown if pair[0] != pair[1]), (confidence, limit))
    return f"not sure (confidence {below} is below {above})"


def _notes(outcome: PictureOutcome) -> list[str]:
    return list(outcome.loaded.notes) if outcome.loaded is not None else []


def _task_fields(verdict: Verdict) -> dict[str, Any]:
    result = verdict.result
    fields: dict[str, Any] = {
        "task": result.task,
        "text": result.text if verdict.is_sure else None,
        "confidence": None if result.confidence is None else round(float(result.confidence), 4),
        "timings_ms": {name: round(float(value), 3) for name, value in result.timings_ms.items()},
    }
    if result.question is not None:
        fields["question"] = result.question
    if result.regions is not None:
        fields["regions"] = [_region_fields(region) for region in result.regions]
    return fields


def _region_fields(region: TextRegion) -> dict[str, Any]:
    box = [[round(float(x), 1), round(float(y), 1)] for x, y in region.box]
    return {"text": region.text, "box": box, "confidence": round(float(region.confidence), 4)}
