"""Read the pictures in chunks, run the tasks on each chunk, and keep failures as outcomes of their own."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from mmllm_cli.fetch import FetchLimits
from mmllm_cli.image_inputs import InputPicture, read_input
from mobile_multimodal.errors import ImageError, MmllmError
from mobile_multimodal.image import LoadedImage
from mobile_multimodal.results import GenerationConfig, TaskRequest, TaskResult

__all__ = ["PictureOutcome", "TaskRunner", "picture_outcomes"]


class TaskRunner(Protocol):
    """What this needs of a model: see :class:`mobile_multimodal.model.MobileMultiModalLLM`."""

    def run(
        self,
        images: Sequence[LoadedImage],
        requests: Sequence[TaskRequest],
        generation: GenerationConfig | None = None,
    ) -> list[list[TaskResult]]:
        """The results of each request for each image."""
        ...


@dataclass(frozen=True)
class PictureOutcome:
    """What became of one picture: its results, one per request, or the error that refused it."""

    picture: InputPicture
    loaded: LoadedImage | None = None
    results: tuple[TaskResult, ...] = ()
    error: MmllmError | None = None
    read_ms: float = 0.0


def picture_outcomes(
    model: TaskRunner,
    pictures: Sequence[InputPicture],
    requests: Sequence[TaskRequest],
    generation: GenerationConfig,
    *,
    batch_size: int,
    limits: FetchLimits | None = None,
) -> Iterator[PictureOutcome]:
    """Yield one outcome per picture, in order; at most ``batch_size`` pictures are held at a time."""
    for start in range(0, len(pictures), batch_size):
        read = [_read(picture, limits) for picture in pictures[start : start + batch_size]]
        good = [outcome.loaded for outcome in read if outcome.loaded is not None]
        found = iter(_run(model, good, requests, generation))
        for outcome in read:
            yield outcome if outcome.loaded is None else _joined(outcome, next(found))


def _read(picture: InputPicture, limits: FetchLimits | None) -> PictureOutcome:
    start = time.perf_counter()
    try:
        loaded = read_input(picture, limits)
    except MmllmError as error:
        return PictureOutcome(picture, error=error)
    except MemoryError:
        return PictureOutcome(picture, error=_too_large(picture.name))
    return PictureOutcome(picture, loaded, read_ms=1000 * (time.perf_counter() - start))


def _run(
    model: TaskRunner,
    images: Sequence[LoadedImage],
    requests: Sequence[TaskRequest],
    generation: GenerationConfig,
) -> list[list[TaskResult] | MmllmError]:
    if not images:
        return []
    try:
        return list(model.run(images, requests, generation))
    except MmllmError as error:
        if len(images) == 1:
            return [error]
    except MemoryError:
        if len(images) == 1:
            return [_too_large(images[0].source)]
    # One picture of the batch cannot be used: the others still get their results.
    return [result for image in images for result in _run(model, [image], requests, generation)]


def _too_large(name: str) -> ImageError:
    return ImageError(f"{name} does not fit into memory", remedy="save it smaller")


def _joined(outcome: PictureOutcome, found: list[TaskResult] | MmllmError) -> PictureOutcome:
    if isinstance(found, MmllmError):
        return PictureOutcome(outcome.picture, error=found)
    return PictureOutcome(outcome.picture, outcome.loaded, tuple(found), read_ms=outcome.read_ms)
