"""The options of ``mmllm eval``, checked, and the evaluation that they ask for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.evaluation_report import EvaluationReport
from mobile_multimodal.errors import UsageError
from mobile_multimodal.results import TASKS, GenerationConfig

__all__ = ["EVALUATION_TASKS", "EvaluationSettings", "run_evaluation"]

DRAWN = {"pages": 60, "non-photos": 20}
"""Tasks whose pictures are drawn here, and how many unless told otherwise."""
EVALUATION_TASKS = (*TASKS, *DRAWN)


@dataclass(frozen=True)
class EvaluationSettings:
    """What is evaluated, on what, and how.

    Raises:
        UsageError: an unknown task, a data file missing, or one given for pictures that are drawn here;
            a seed given for others, or engines for another task than pages.
    """

    task: str
    data: Path | None
    images: Path | None
    train_data: Path | None
    limit: int | None
    seed: int | None
    engines: tuple[str, ...] | None
    model: str | None
    backend: str
    threads: int | None
    generation: GenerationConfig

    def __post_init__(self) -> None:
        if self.task not in EVALUATION_TASKS:
            raise UsageError(f"unknown task {self.task!r}", remedy=f"one of {', '.join(EVALUATION_TASKS)}")
        is_drawn = self.task in DRAWN
        if is_drawn and (self.data or self.images or self.train_data):
            other = "ocr" if self.task == "pages" else "caption"
            raise UsageError(
                f"task {self.task!r} renders its own data",
                remedy=f"leave --data out, or use --task {other}",
            )
        if self.engines is not None and self.task != "pages":
            raise UsageError(f"task {self.task!r} renders no pages", remedy="leave --engines to --task pages")
        if self.seed is not None and not is_drawn:
            raise UsageError(
                f"task {self.task!r} renders nothing", remedy=f"leave --seed to --task {' or '.join(DRAWN)}"
            )
        if not is_drawn and self.data is None:
            raise UsageError(f"task {self.task!r} needs a data file", remedy="--data FILE")


def run_evaluation(settings: EvaluationSettings, progress: Callable[[int, int], None]) -> EvaluationReport:
    """Open the model and evaluate it; see ``benchmarks.evaluate`` for the errors."""
    from mobile_multimodal.model import MobileMultiModalLLM

    model = MobileMultiModalLLM(settings.model, backend=settings.backend, threads=settings.threads)
    if settings.data is None:
        count = settings.limit or DRAWN[settings.task]
        if settings.task == "non-photos":
            from benchmarks.evaluate_non_photos import evaluate_non_photos

            return evaluate_non_photos(
                model, count, settings.seed or 0, settings.generation, progress=progress
            )
        from benchmarks.evaluate_pages import ENGINES, evaluate_rendered_pages

        engines = ENGINES if settings.engines is None else settings.engines
        return evaluate_rendered_pages(model, count, settings.seed or 0, engines, progress=progress)
    from benchmarks.evaluate import evaluate

    return evaluate(
        model,
        settings.data,
        settings.task,
        images=settings.images,
        train_data=settings.train_data,
        limit=settings.limit,
        generation=settings.generation,
        progress=progress,
    )
