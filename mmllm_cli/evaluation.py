"""The options of ``mmllm eval``, checked, and the evaluation that they ask for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.evaluation_report import EvaluationReport
from mobile_multimodal.errors import UsageError
from mobile_multimodal.results import TASKS, GenerationConfig

__all__ = ["EVALUATION_TASKS", "EvaluationSettings", "run_evaluation"]

EVALUATION_TASKS = (*TASKS, "pages")
DEFAULT_PAGES = 60


@dataclass(frozen=True)
class EvaluationSettings:
    """What is evaluated, on what, and how.

    Raises:
        UsageError: an unknown task, a data file missing, or one given for pages, which are rendered;
            a seed or engines given for another task than pages.
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
        if self.task == "pages" and (self.data or self.images or self.train_data):
            raise UsageError(
                "task 'pages' renders its own data", remedy="leave --data out, or use --task ocr"
            )
        if self.task != "pages" and (self.seed is not None or self.engines is not None):
            raise UsageError(
                f"task {self.task!r} renders no pages", remedy="leave --seed and --engines to --task pages"
            )
        if self.task != "pages" and self.data is None:
            raise UsageError(f"task {self.task!r} needs a data file", remedy="--data FILE")


def run_evaluation(settings: EvaluationSettings, progress: Callable[[int, int], None]) -> EvaluationReport:
    """Open the model and evaluate it; see ``benchmarks.evaluate`` for the errors."""
    from mobile_multimodal.model import MobileMultiModalLLM

    model = MobileMultiModalLLM(settings.model, backend=settings.backend, threads=settings.threads)
    if settings.data is None:
        from benchmarks.evaluate_pages import ENGINES, evaluate_rendered_pages

        count = settings.limit or DEFAULT_PAGES
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
