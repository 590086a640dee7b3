"""What a worker of ``mmllm batch`` does, whatever engine started it: open the model once, run blocks."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

from mmllm_cli.batch_inputs import BatchItem
from mmllm_cli.errors_to_exit import error_row
from mmllm_cli.image_inputs import InputPicture
from mmllm_cli.picture_tasks import PictureOutcome
from mmllm_cli.result_rows import judge, result_row, results_row
from mmllm_cli.run_pictures import confidence_limit
from mobile_multimodal.errors import BundleError, ImageError, MmllmError
from mobile_multimodal.image import LoadedImage, load_image
from mobile_multimodal.model import MobileMultiModalLLM
from mobile_multimodal.results import GenerationConfig, TaskRequest, TaskResult

__all__ = ["BatchSetup", "Row", "lost_row", "open_model", "run_block"]

Row = dict[str, Any]


@dataclass(frozen=True)
class BatchSetup:
    """What every worker is told once: the model, which must have this sha256, and what is wanted of it.

    ``owns_process``: the process works for this run alone, so that its libraries' threads and what they
    write to standard error may be cut.
    """

    model: str | None
    backend: str
    sha256: str
    tasks: tuple[str, ...]
    generation: GenerationConfig
    min_confidence: float | None
    owns_process: bool = True


_models: dict[BatchSetup, MobileMultiModalLLM] = {}
_opening = threading.Lock()
_running = threading.Lock()


def open_model(setup: BatchSetup) -> MobileMultiModalLLM:
    """The model of this process, opened with one thread when first asked for.

    Raises:
        UsageError: there is no such model here.
        BundleError: a file of it was changed, or it is another than the one that was asked for.
    """
    with _opening:
        if setup not in _models:
            if setup.owns_process:
                _keep_to_itself()
            model = MobileMultiModalLLM(setup.model, backend=setup.backend, threads=1)
            if model.sha256 != setup.sha256:
                raise BundleError(
                    f"a worker has another {model.name!r}: {model.sha256[:12]}, not {setup.sha256[:12]}",
                    remedy="install the same mmllm there",
                )
            _models.clear()  # a Dask worker may live through many runs
            _models[setup] = model
        return _models[setup]


def run_block(setup: BatchSetup, items: Sequence[BatchItem]) -> list[Row]:
    """One row for each item, in order: its results, or its error, of whatever kind.

    Items with the same question are one batch.

    Raises:
        MmllmError: the model cannot be opened.
    """
    model = open_model(setup)
    read = [_read(item) for item in items]
    rows: list[Row] = [{} for _ in items]
    alike: dict[str | None, list[int]] = {}
    for place, (item, outcome) in enumerate(zip(items, read, strict=True)):
        if isinstance(outcome, PictureOutcome):
            alike.setdefault(item.question if "vqa" in setup.tasks else None, []).append(place)
        else:
            rows[place] = _failed(item, outcome)
    for question, places in alike.items():
        outcomes = [outcome for place in places if isinstance(outcome := read[place], PictureOutcome)]
        images = [outcome.loaded for outcome in outcomes if outcome.loaded is not None]
        found = _run(model, setup, images, question)
        for place, outcome, results in zip(places, outcomes, found, strict=True):
            if isinstance(results, Exception):
                rows[place] = _failed(items[place], results)
            else:
                rows[place] = _row(model, setup, replace(outcome, results=tuple(results)))
    return rows


def lost_row(item: BatchItem) -> Row:
    """The row of a picture at which, alone, a worker's process ended."""
    remedy = "it may need more memory than there is: try --workers 1"
    error = item.error or ImageError(f"{item.name}: a worker's process ended at it", remedy=remedy)
    return _failed(item, error)


def _read(item: BatchItem) -> PictureOutcome | Exception:
    if item.error is not None:
        return item.error
    start = time.perf_counter()
    try:
        image = item.data if item.path is None else item.path
        loaded = load_image(b"" if image is None else image, source=item.name)
    except MemoryError:
        return _too_large(item.name)
    except Exception as exc:  # noqa: BLE001 - one bad picture of a million is a row, whatever it raises
        return exc
    read_ms = 1000 * (time.perf_counter() - start)
    return PictureOutcome(InputPicture(item.name, "file"), loaded, read_ms=read_ms)


def _run(
    model: MobileMultiModalLLM, setup: BatchSetup, images: Sequence[LoadedImage], question: str | None
) -> list[list[TaskResult] | Exception]:
    # Only ONNX Runtime's sessions may be shared by the threads that a Dask worker can have.
    alone = nullcontext() if setup.backend == "onnxruntime" else _running
    try:
        requests = [TaskRequest(task, question if task == "vqa" else None) for task in setup.tasks]
        with alone:
            return list(model.run(images, requests, setup.generation))
    except MemoryError:
        if len(images) == 1:
            return [_too_large(images[0].source)]
    except Exception as exc:  # noqa: BLE001
        if len(images) == 1:
            return [exc]
    # One picture cannot be used: the others still get their results.
    return [result for image in images for result in _run(model, setup, [image], question)]


def _row(model: MobileMultiModalLLM, setup: BatchSetup, outcome: PictureOutcome) -> Row:
    verdicts = [
        judge(result, confidence_limit(setup.min_confidence, result.task, model.config))
        for result in outcome.results
    ]
    if len(verdicts) > 1:
        return results_row(outcome, verdicts, model.name)
    return result_row(outcome, verdicts[0], model.name)


def _failed(item: BatchItem, error: Exception) -> Row:
    return {"image": item.name, "error": error_row(error)}


def _too_large(name: str) -> MmllmError:
    return ImageError(f"{name} does not fit into memory", remedy="save it smaller")


def _keep_to_itself() -> None:
    # OpenCV reads it when it is imported, which is later.
    os.environ["OPENCV_FOR_THREADS_NUM"] = "1"
    if os.environ.get("MMLLM_DEBUG", "") in ("", "0"):
        # libtiff and libjpeg write to file descriptor 2 by themselves, into the progress bar.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
