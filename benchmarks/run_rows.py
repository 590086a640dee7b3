"""One request on the picture of every row, a batch of pictures at a time."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.evaluation_data import CaptionRow, PageRow, WordRow
from benchmarks.evaluation_report import EvaluatedModel, Progress
from benchmarks.image_store import ImageStore
from mobile_multimodal.results import GenerationConfig, TaskRequest, TaskResult

__all__ = ["run_rows"]


def run_rows(
    model: EvaluatedModel,
    rows: Sequence[CaptionRow | WordRow | PageRow],
    store: ImageStore,
    request: TaskRequest,
    *,
    batch_size: int,
    generation: GenerationConfig | None = None,
    progress: Progress | None = None,
) -> list[TaskResult]:
    """One result per row, in order.

    Raises:
        DataError: a picture that cannot be read.
    """
    results: list[TaskResult] = []
    for start in range(0, len(rows), batch_size):
        images = [store.load(row.image, row.where) for row in rows[start : start + batch_size]]
        results.extend(of_image[0] for of_image in model.run(images, [request], generation))
        if progress is not None:
            progress(len(results), len(rows))
    return results
