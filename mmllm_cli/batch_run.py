"""One call of ``mmllm batch``: check everything first, run the blocks, put the rows in their place."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from benchmarks.environment import usable_cores
from mmllm_cli.batch_inputs import BLOCK_ROWS, Block, DataSet, open_data_set, read_blocks
from mmllm_cli.batch_output import BatchSummary, output_format, print_summary, write_results
from mmllm_cli.batch_partial import PartialFile, partial_path
from mmllm_cli.batch_worker import BatchSetup, Row, lost_row
from mmllm_cli.console import Progress, print_note, progress
from mmllm_cli.output_files import check_can_write
from mobile_multimodal.bundle import ModelBundle, find_model, load_bundle, packaged_models
from mobile_multimodal.errors import MmllmError, UsageError
from mobile_multimodal.results import GenerationConfig, TaskRequest

__all__ = ["ENGINES", "BatchRequest", "Engine", "run_batch"]

ENGINES = ("local", "dask")
FAILED = 3


@dataclass(frozen=True)
class BatchRequest:
    """The options of ``mmllm batch``, as the command line gave them; ``again`` is the command to resume."""

    source: Path
    output: Path
    tasks: tuple[str, ...]
    question: str | None
    engine: str
    address: str | None
    workers: int | None
    model: str | None
    backend: str
    written_as: str | None
    image_column: str | None
    generation: GenerationConfig
    min_confidence: float | None
    resume: bool
    force: bool
    as_json: bool
    again: str


class Engine(Protocol):
    """Workers: see :class:`~mmllm_cli.batch_local.LocalEngine`."""

    workers: int

    def results(self, take: Callable[[], Block | None]) -> Iterator[tuple[Block, list[Row] | None]]:
        """Blocks with their rows, as they are done."""
        ...

    def close(self) -> None:
        """End the workers."""
        ...


def run_batch(request: BatchRequest) -> int:
    """Run the tasks on a whole data set and return the exit code: 3 where a row has an error.

    Raises:
        UsageError: options that do not go together, or a partial file of another run.
        MmllmError: a data set, a model, a scheduler or an output that cannot be used.
    """
    _check_options(request)
    written_as = output_format(request.output, request.written_as)
    check_can_write(request.output)
    partial = partial_path(request.output)
    # Who began a run with --force has agreed already.
    goes_on = request.resume and partial.exists()
    if request.output.exists() and not request.force and not goes_on:
        raise UsageError(f"{request.output} exists", remedy="--force replaces it")
    if written_as == "parquet":
        from mmllm_cli import batch_parquet  # noqa: F401 - said now if pyarrow is missing
    data_set = open_data_set(
        request.source,
        image_column=request.image_column,
        question=request.question,
        asks="vqa" in request.tasks,
    )
    bundle = load_bundle(find_model(request.model, request.backend))
    if "ocr" in request.tasks and bundle.config.ocr is None:
        raise UsageError(f"model {bundle.config.name!r} cannot read text: it has no text detector")
    setup = _setup(request, bundle)
    open_engine = _engine_opener(request, setup)
    run = _identity(request, data_set, bundle)
    with PartialFile(partial, run, resume=request.resume, force=request.force) as kept:
        before = _rows_in(data_set, kept)
        started, workers = time.perf_counter(), 0
        try:
            if before < data_set.rows:
                workers = _compute(data_set, kept, open_engine)
        except (KeyboardInterrupt, MmllmError):
            if kept.finished:
                print_note(
                    f"{_rows_in(data_set, kept):,} of {data_set.rows:,} rows are kept in {kept.path}; "
                    f"go on with: {request.again}"
                )
            else:
                kept.remove()
            raise
        seconds = time.perf_counter() - started
        failures = _Failures()
        write_results(
            request.output, failures.seen(kept.rows()), written_as, several_tasks=len(request.tasks) > 1
        )
        kept.remove()
    computed = data_set.rows - before
    summary = BatchSummary(
        output=str(request.output),
        format=written_as,
        rows=data_set.rows,
        failed=failures.count,
        computed=computed,
        seconds=seconds,
        images_per_s=round(computed / seconds, 2) if computed else None,
        engine=request.engine,
        workers=workers,
        tasks=request.tasks,
        model=bundle.config.name,
        sha256=bundle.sha256,
        first_error=failures.first,
    )
    print_summary(summary, as_json=request.as_json)
    return FAILED if failures.count else 0


class _Failures:
    """Counts the rows with an error on their way to the output."""

    def __init__(self) -> None:
        self.count = 0
        self.first: str | None = None

    def seen(self, rows: Iterator[Row]) -> Iterator[Row]:
        for row in rows:
            if "error" in row:
                self.count += 1
                self.first = self.first or row["error"]["message"]
            yield row


def _compute(data_set: DataSet, kept: PartialFile, open_engine: Callable[[int], Engine]) -> int:
    """Run the blocks that are not kept yet, keep each as it is done, and return how many workers did it."""
    fresh = read_blocks(data_set, kept.finished.__contains__)
    again: deque[Block] = deque()
    parts: dict[int, dict[int, Row]] = {}
    with (
        progress("pictures", total=data_set.rows) as bar,
        closing(open_engine(data_set.blocks - len(kept.finished))) as engine,
    ):
        _show(bar, data_set, kept)
        for block, rows in engine.results(lambda: again.popleft() if again else next(fresh, None)):
            if rows is None and len(block.items) > 1:
                # Each alone: the others of the block still get their results.
                again.extend(Block(block.number, (item,), place) for place, item in enumerate(block.items))
                continue
            found = rows if rows is not None else [lost_row(item) for item in block.items]
            part = parts.setdefault(block.number, {})
            part.update(enumerate(found, start=block.first))
            if len(part) == _size(data_set, block.number):
                del parts[block.number]
                kept.write(block.number, [part[place] for place in sorted(part)])
                _show(bar, data_set, kept)
        return engine.workers


def _check_options(request: BatchRequest) -> None:
    if request.engine not in ENGINES:
        raise UsageError(f"unknown engine {request.engine!r}", remedy=f"one of {', '.join(ENGINES)}")
    if request.address is not None and request.engine != "dask":
        raise UsageError("--address names a Dask scheduler", remedy="add --engine dask")
    if request.address is not None and request.workers is not None:
        raise UsageError("a scheduler has its own workers", remedy="leave --workers or --address out")
    if request.resume and request.force:
        raise UsageError("--resume goes on and --force starts anew", remedy="give one of them")
    if not request.tasks:
        raise UsageError("no task is given", remedy="--task caption,ocr,vqa")
    if request.question is not None and "vqa" not in request.tasks:
        raise UsageError("a question is given, but --task does not name vqa", remedy="--task vqa")
    for task in request.tasks:  # a wrong name or question is no matter of a row
        question = "what is it?" if request.question is None else request.question
        TaskRequest(task, question if task == "vqa" else None)
    if request.output.exists() and request.source.exists() and request.output.samefile(request.source):
        raise UsageError(f"{request.output} is the data set itself", remedy="name another OUT")


def _setup(request: BatchRequest, bundle: ModelBundle) -> BatchSetup:
    # A path means the same in every process, but a packaged name is at home wherever mmllm is.
    is_path = request.model is not None and request.model not in packaged_models()
    return BatchSetup(
        model=os.path.abspath(str(request.model)) if is_path else request.model,
        backend=request.backend,
        sha256=bundle.sha256,
        tasks=request.tasks,
        generation=request.generation,
        min_confidence=request.min_confidence,
    )


def _engine_opener(request: BatchRequest, setup: BatchSetup) -> Callable[[int], Engine]:
    """What starts the engine, with no more workers than blocks; what it needs is looked for at once."""
    wanted = request.workers or len(usable_cores())
    if request.engine == "local":
        from mmllm_cli.batch_local import LocalEngine

        return lambda blocks: LocalEngine(setup, min(wanted, blocks))
    from mmllm_cli.batch_dask import DaskEngine, scheduler_address

    address = None if request.address is None else scheduler_address(request.address)
    return lambda blocks: DaskEngine(setup, min(wanted, blocks), address)


def _identity(request: BatchRequest, data_set: DataSet, bundle: ModelBundle) -> dict[str, Any]:
    """What must be the same for the rows of an earlier run to be those of this one."""
    return {
        "layout": f"mmllm batch 1, blocks of {BLOCK_ROWS}",
        "data set": f"{data_set.rows:,} rows, sha256 {data_set.sha256[:32]}",
        "image column": request.image_column,
        "task": ",".join(request.tasks),
        "question": request.question,
        "model": f"{bundle.config.name}, sha256 {bundle.sha256}",
        "backend": request.backend,
        "min confidence": request.min_confidence,
        "generation": asdict(request.generation),
    }


def _size(data_set: DataSet, block: int) -> int:
    return min(BLOCK_ROWS, data_set.rows - block * BLOCK_ROWS)


def _rows_in(data_set: DataSet, kept: PartialFile) -> int:
    return sum(_size(data_set, block) for block in kept.finished)


def _show(bar: Progress, data_set: DataSet, kept: PartialFile) -> None:
    bar.show(min(len(kept.finished) * BLOCK_ROWS, data_set.rows), data_set.rows)
