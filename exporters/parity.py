"""Whether an artifact does what its bundle does: every output of every component, every task's very words.

The reference is torch on the bundle of the same recipe, at the same fixed sizes where the artifact has such.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mobile_multimodal.backends import Array, Backend
from mobile_multimodal.backends.recording import Call
from mobile_multimodal.errors import MmllmError
from mobile_multimodal.image import LoadedImage
from mobile_multimodal.numerics import cosine_similarity, max_abs_error, sqnr_db
from mobile_multimodal.results import GenerationConfig, TaskRequest, TaskResult
from mobile_multimodal.tasks import Runtime, run_tasks

__all__ = [
    "EXACT",
    "HALF",
    "ROUNDED",
    "Limits",
    "ParityCheck",
    "ParityReport",
    "TaskParity",
    "compare_outputs",
    "compare_tasks",
    "run_pictures",
]

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Limits:
    """How far an artifact may be from torch.

    ``max_abs_error`` of every output, None where only its direction counts; ``cosine`` at least; and of the
    texts of every task at least ``agreement_percent`` must be equal, word for word.
    """

    max_abs_error: float | None
    cosine: float
    agreement_percent: float


EXACT = Limits(2e-4, 0.9999, 100.0)
"""The same numbers, computed in float32: only the order of sums differs. In a character's probability torch
itself is up to 3e-5 from float64, XNNPACK up to 1.6e-4; everything else stays below 1e-4."""
HALF = Limits(None, 0.9999, 90.0)
"""Everything is computed in float16: only ties turn."""
ROUNDED = Limits(None, 0.999, 60.0)
"""Activations are rounded to 8 bits on the way, or scales to float16: likely words stay, others turn."""


@dataclass(frozen=True)
class ParityCheck:
    """One output of one component, over all calls: the worst of each figure, and whether that is allowed.

    ``reason`` says why not; a value that is missing, not finite or of another shape never passes.
    """

    component: str
    output: str
    calls: int
    max_abs_error: float | None
    cosine: float | None
    sqnr_db: float | None
    passed: bool
    reason: str = ""


@dataclass(frozen=True)
class TaskParity:
    """How many pictures have the same text under both; ``first_difference`` shows the first that has not."""

    task: str
    pictures: int
    equal: int
    passed: bool
    first_difference: str = ""


@dataclass(frozen=True)
class ParityReport:
    """What was compared, on what, and how it came out. ``notes`` say what was not checked here."""

    runtime: str
    limits: Limits
    checks: tuple[ParityCheck, ...]
    tasks: tuple[TaskParity, ...]
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether all of it is within the limits, and there was something to compare."""
        verdicts = [*(check.passed for check in self.checks), *(task.passed for task in self.tasks)]
        return bool(self.checks and self.tasks) and all(verdicts)

    def first_failure(self) -> str:
        """The first output or task that is not within the limits, in words; empty where all are."""
        for check in self.checks:
            if not check.passed:
                return f"{check.component} {check.output}: {check.reason}"
        for task in self.tasks:
            if not task.passed:
                return (
                    f"{task.task}: {task.equal} of {task.pictures} texts are equal, "
                    f"first difference {task.first_difference}"
                )
        return "" if self.passed else "nothing was compared"


def compare_outputs(calls: Sequence[Call], artifact: Backend, limits: Limits) -> tuple[ParityCheck, ...]:
    """Run the calls again on the artifact and compare every output with what was recorded.

    A component that no call reaches is not proven, and fails.
    """
    found: dict[tuple[str, str], list[tuple[float, float, float] | str]] = {}
    for component, inputs, expected in calls:
        try:
            outputs = artifact.run(component, inputs)
        except MmllmError as exc:
            outputs, failure = {}, str(exc)
        else:
            failure = "is missing"
        for name, wanted in expected.items():
            rows = found.setdefault((component, name), [])
            rows.append(_figures(wanted, outputs[name]) if name in outputs else failure)
    for component in set(artifact.components) - {component for component, _, _ in calls}:
        found[component, "outputs"] = ["was never run"]
    return tuple(_check(component, name, rows, limits) for (component, name), rows in found.items())


def _figures(wanted: Array, found: Array) -> tuple[float, float, float] | str:
    try:
        return max_abs_error(wanted, found), cosine_similarity(wanted, found), sqnr_db(wanted, found)
    except ValueError as exc:
        return str(exc)


def _check(
    component: str, output: str, rows: Sequence[tuple[float, float, float] | str], limits: Limits
) -> ParityCheck:
    failures = [row for row in rows if isinstance(row, str)]
    if failures:
        return ParityCheck(component, output, len(rows), None, None, None, False, failures[0])
    figures = np.array([row for row in rows if not isinstance(row, str)])
    error, cosine = float(figures[:, 0].max()), float(figures[:, 1].min())
    noise = float(figures[:, 2].min())
    reason = ""
    if limits.max_abs_error is not None and error > limits.max_abs_error:
        reason = f"max abs error {error:.3g} is above {limits.max_abs_error:g}"
    elif cosine < limits.cosine:
        reason = f"cosine {cosine:.6f} is below {limits.cosine}"
    return ParityCheck(
        component, output, len(rows), error, cosine, noise if np.isfinite(noise) else None, not reason, reason
    )


def run_pictures(
    runtime: Runtime, pictures: Sequence[LoadedImage], questions: Sequence[str], progress: Progress
) -> Sequence[Sequence[TaskResult]]:
    """Caption, answer and read every picture → results [picture][task]; questions are asked in turn."""
    reading = [TaskRequest("ocr")] if runtime.config.ocr is not None else []
    results = []
    for number, picture in enumerate(pictures):
        asked = TaskRequest("vqa", questions[number % len(questions)])
        requests = [TaskRequest("caption"), asked, *reading]
        results.append(run_tasks(runtime, [picture], requests, GenerationConfig())[0])
        progress(number + 1, len(pictures))
    return results


def compare_tasks(
    expected: Sequence[Sequence[TaskResult]],
    found: Sequence[Sequence[TaskResult]],
    sources: Sequence[str],
    limits: Limits,
) -> tuple[TaskParity, ...]:
    """How often both say the same; captions and answers count by their tokens, reading line by line."""
    same: dict[str, list[str]] = {}
    for source, ours, theirs in zip(sources, expected, found, strict=True):
        for left, right in zip(ours, theirs, strict=True):
            difference = (
                "" if _said(left) == _said(right) else f"{left.text!r} and {right.text!r} of {source}"
            )
            same.setdefault(left.task, []).append(difference)
    return tuple(
        TaskParity(
            task,
            len(rows),
            equal := sum(not row for row in rows),
            100.0 * equal >= limits.agreement_percent * len(rows),
            next((row for row in rows if row), ""),
        )
        for task, rows in same.items()
    )


def _said(result: TaskResult) -> object:
    if result.task == "ocr":
        return [region.text for region in result.regions or ()]
    return result.token_ids
