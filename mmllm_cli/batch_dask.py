"""The engine ``dask``: a cluster of this machine, or whatever workers an existing scheduler has."""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmllm_cli.batch_inputs import BatchItem, Block
from mmllm_cli.batch_worker import BatchSetup, Row, run_block
from mobile_multimodal.errors import ImageError, MissingExtraError, MmllmError, UsageError
from mobile_multimodal.image import MAX_FILE_BYTES, load_image
from mobile_multimodal.interrupts import interrupts_held

try:
    from dask import distributed as untyped
except ImportError as exc:
    raise MissingExtraError("dask[distributed]", "batch") from exc

distributed: Any = untyped  # its functions have no hints

__all__ = ["DaskEngine", "scheduler_address"]

LATEST_ANSWER_S = 10.0
"""How long a scheduler may take to answer, and then its first worker to join."""
BLOCKS_PER_THREAD = 4
FEWEST_BLOCKS = 32
"""Blocks that wait at the scheduler at least, so that a cluster that grows on demand does grow."""
COUNTED_AGAIN_S = 5.0
LOGGERS = ("distributed", "distributed.client", "tornado", "tornado.application", "asyncio")
"""What goes wrong is said once, by this module."""


class DaskEngine:
    """Blocks as tasks of a Dask cluster; each worker opens the model once.

    Without an address ``workers`` processes of one thread are started here, and are sent paths. The
    workers of an existing scheduler cannot be assumed to see this machine's files: they are sent bytes.

    Raises:
        UsageError: a bad address.
        MmllmError: no scheduler answers there, or it has no workers.
    """

    name = "dask"

    def __init__(self, setup: BatchSetup, workers: int, address: str | None) -> None:
        for logger in LOGGERS:
            logging.getLogger(logger).setLevel(logging.CRITICAL)
        self._cluster: Any = None
        self._client: Any = None
        self._address = None if address is None else scheduler_address(address)
        self._sends_bytes = address is not None
        self._setup = replace(setup, owns_process=address is None)
        try:
            with interrupts_held():
                self.workers = self._connect(workers)
        except BaseException:
            self.close()
            raise

    def results(self, take: Callable[[], Block | None]) -> Iterator[tuple[Block, list[Row] | None]]:
        """As those of the engine ``local``; None after a block has ended several workers.

        Raises:
            MmllmError: a worker could not open the model or has no mmllm, or the scheduler has gone.
        """
        run = uuid.uuid4().hex[:8]
        blocks: dict[Any, Block] = {}
        done = distributed.as_completed()
        limit, counted = 0, float("-inf")
        while True:
            if time.monotonic() - counted > COUNTED_AGAIN_S:  # workers come and go
                limit, counted = self._most_blocks(), time.monotonic()
            while len(blocks) < limit and (block := take()) is not None:
                items = tuple(map(_with_bytes, block.items)) if self._sends_bytes else block.items
                key = f"mmllm-{run}-{block.number}-{block.first}-{len(items)}"
                future = self._client.submit(run_block, self._setup, items, key=key, pure=False)
                blocks[future.key] = block
                done.add(future)
            if not blocks:
                return
            future = next(done)
            yield blocks.pop(future.key), self._rows(future)

    def close(self) -> None:
        """Give up what is unfinished, leave the scheduler, and end the workers that were started here."""
        # What Dask complains of while it is taken down is nothing that anyone could mend.
        for part in (self._client, self._cluster):
            if part is not None:
                with suppress(OSError, TimeoutError, RuntimeError, CancelledError):
                    part.close(timeout=LATEST_ANSWER_S)
        self._client = self._cluster = None

    def _connect(self, workers: int) -> int:
        try:
            if self._address is None:
                self._cluster = distributed.LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    processes=True,
                    host="127.0.0.1",
                    dashboard_address=None,
                    silence_logs="CRITICAL",
                )
            self._client = distributed.Client(self._cluster or self._address, timeout=LATEST_ANSWER_S)
        except (OSError, TimeoutError, RuntimeError) as exc:
            where = "here" if self._address is None else f"at {self._address}"
            raise MmllmError(
                f"no Dask scheduler answers {where}: {_first_line(exc)}",
                remedy="start one: dask scheduler, and dask worker HOST:PORT",
            ) from exc
        try:
            self._client.wait_for_workers(1, timeout=LATEST_ANSWER_S)
        except TimeoutError as exc:
            raise MmllmError(
                f"the Dask scheduler at {self._address} has no workers",
                remedy=f"dask worker {self._address}",
            ) from exc
        return len(self._client.nthreads())

    def _most_blocks(self) -> int:
        threads: int = sum(self._client.nthreads().values())
        return max(FEWEST_BLOCKS, BLOCKS_PER_THREAD * threads)

    def _rows(self, future: Any) -> list[Row] | None:
        try:
            rows: list[Row] = future.result()
        except distributed.KilledWorker:
            return None
        except MmllmError:
            raise
        except CancelledError as exc:
            raise MmllmError(
                f"the Dask scheduler{f' at {self._address}' if self._address else ''} has gone"
            ) from exc
        except Exception as exc:
            raise MmllmError(
                f"a Dask worker failed: {type(exc).__name__}: {_first_line(exc)}",
                remedy="install the same mmllm and dask there",
            ) from exc
        return rows


def scheduler_address(text: str) -> str:
    """``HOST:PORT`` as Dask wants it; ``tcp://``, ``tls://`` and other protocols stay as they are.

    Raises:
        UsageError: no port.
    """
    protocol, found, place = text.rpartition("://")
    host, _, port = place.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(f"--address {text!r} is not HOST:PORT", remedy="--address 127.0.0.1:8786")
    return f"{protocol}{found or 'tcp://'}{place}"


def _with_bytes(item: BatchItem) -> BatchItem:
    if item.path is None or item.error is not None:
        return item
    try:
        with Path(item.path).open("rb") as file:
            if os.fstat(file.fileno()).st_size <= MAX_FILE_BYTES:
                return replace(item, path=None, data=file.read(MAX_FILE_BYTES + 1))
        error = ImageError(
            f"{item.name} has more than {MAX_FILE_BYTES // 2**20} MiB", remedy="save it smaller"
        )
    except (OSError, ValueError):
        error = _why_unreadable(item)
    return replace(item, error=error)


def _why_unreadable(item: BatchItem) -> ImageError:
    try:
        load_image(item.path or "", source=item.name)
    except ImageError as exc:
        return exc
    return ImageError(f"{item.name} could not be read", remedy="try again")  # now it can


def _first_line(exc: BaseException) -> str:
    return (str(exc) or type(exc).__name__).splitlines()[0]
