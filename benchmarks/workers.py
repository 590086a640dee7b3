"""A process on each core with a model of its own; all take their work from one queue of known arrivals."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.environment import usable_cores
from mobile_multimodal.errors import InconclusiveError, MmllmError

__all__ = ["ServedBatch", "Trial", "WorkerPool", "parted_cores"]

LATEST_START_S = 120.0
"""How long a process may take to load its model."""
LEAD_S = 0.05
"""From the moment that a trial is announced to its first arrival, so that every process is waiting."""


@dataclass(frozen=True)
class Trial:
    """Queries and when they arrive, in seconds from the start, in order.

    Up to ``batch_size`` queries that have arrived are captioned together. None is begun after
    ``max_secs``, nor once more than ``allowed_late`` queries took longer than ``bound_ms``.
    """

    arrivals_s: NDArray[np.float64]
    batch_size: int
    max_secs: float
    bound_ms: float = float("inf")
    allowed_late: int = 0


@dataclass(frozen=True)
class ServedBatch:
    """Queries ``first`` to ``first + count``, captioned together, in seconds from the trial's start."""

    first: int
    count: int
    started_s: float
    ended_s: float
    tokens: int


def parted_cores(threads: int) -> list[tuple[int, ...]]:
    """The cores that this process may use, in groups of ``threads``; what is left over stays idle.

    Fewer cores than threads are one group.
    """
    cores = usable_cores()
    groups = [cores[start : start + threads] for start in range(0, len(cores) - threads + 1, threads)]
    return groups or [cores]


class WorkerPool:
    """Processes that caption one photo again and again, each pinned to its cores where the system can.

    Raises:
        InconclusiveError: a process ended, or did not get ready.
        MmllmError: what opening the model raised.
    """

    def __init__(self, model: str | None, backend: str, threads: int, photo: bytes, warmup: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._next, self._late = context.Value("q", 0), context.Value("q", 0)
        self._processes: list[Any] = []
        self._connections: list[Connection] = []
        try:
            for cores in parted_cores(threads):
                ours, theirs = context.Pipe()
                arguments = (theirs, cores, model, backend, threads, photo, warmup, self._next, self._late)
                process = context.Process(target=_work, args=arguments, daemon=True)
                process.start()
                theirs.close()
                self._processes.append(process)
                self._connections.append(ours)
            for connection in self._connections:
                self._answer(connection, LATEST_START_S)
        except BaseException:
            self.close()
            raise

    @property
    def size(self) -> int:
        """How many processes there are."""
        return len(self._processes)

    def run(self, trial: Trial) -> list[ServedBatch]:
        """Serve a trial and return its batches in the order of their first queries."""
        self._next.value = self._late.value = 0
        start_ns = time.perf_counter_ns() + round(LEAD_S * 1e9)
        for connection in self._connections:
            connection.send((trial, start_ns))
        # A batch that was begun in time may end later than the trial does.
        limit = trial.max_secs + LATEST_START_S
        rows = [row for connection in self._connections for row in self._answer(connection, limit)]
        return sorted((ServedBatch(*row) for row in rows), key=lambda batch: batch.first)

    def close(self) -> None:
        """End the processes."""
        for connection in self._connections:
            connection.close()
        for process in self._processes:
            process.join(timeout=5)
            if process.is_alive():
                process.terminate()
                process.join()

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self, connection: Connection, seconds: float) -> Any:
        try:
            if not connection.poll(seconds):
                raise InconclusiveError(f"a process of the benchmark did not answer in {seconds:.0f} s")
            answer = connection.recv()
        except (EOFError, OSError) as exc:
            raise InconclusiveError("a process of the benchmark ended before its time") from exc
        if isinstance(answer, MmllmError):
            raise answer
        return answer


def _work(
    connection: Connection,
    cores: Sequence[int],
    model: str | None,
    backend: str,
    threads: int,
    photo: bytes,
    warmup: int,
    following: Any,
    late: Any,
) -> None:
    """What a process does: open the model, get warm, serve trials until the other end is closed."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    try:
        from benchmarks.stages import StagedModel
        from mobile_multimodal.model import MobileMultiModalLLM

        staged = StagedModel(MobileMultiModalLLM(model, backend=backend, threads=threads))
        for _ in range(max(1, warmup)):
            staged.caption_batch([photo])
        connection.send(None)
        while True:
            trial, start_ns = connection.recv()
            connection.send(_serve(staged, photo, trial, start_ns, following, late))
    except MmllmError as exc:
        connection.send(exc)
    except (EOFError, KeyboardInterrupt, ConnectionError):  # the benchmark is over
        return


def _serve(
    staged: Any, photo: bytes, trial: Trial, start_ns: int, following: Any, late: Any
) -> list[tuple[int, int, float, float, int]]:
    """Take queries in order, wait for them where they have not arrived yet, and caption them.

    ``time.perf_counter_ns`` is one clock for all processes of a machine.
    """
    arrivals, total = trial.arrivals_s, len(trial.arrivals_s)
    rows: list[tuple[int, int, float, float, int]] = []
    time.sleep(max(0, start_ns - time.perf_counter_ns()) / 1e9)
    while True:
        with following.get_lock():
            first = int(following.value)
            now = (time.perf_counter_ns() - start_ns) / 1e9
            if first >= total or now > trial.max_secs or late.value > trial.allowed_late:
                return rows
            # Whoever takes a query that has not arrived waits for it alone.
            arrived = int(np.searchsorted(arrivals[first : first + trial.batch_size], now, side="right"))
            count = max(1, arrived)
            following.value = first + count
        ahead = arrivals[first] - now
        if ahead > 0:
            time.sleep(ahead)
        started = (time.perf_counter_ns() - start_ns) / 1e9
        sample = staged.caption_batch([photo] * count)
        ended = (time.perf_counter_ns() - start_ns) / 1e9
        slow = int((1000.0 * (ended - arrivals[first : first + count]) > trial.bound_ms).sum())
        if slow:
            with late.get_lock():
                late.value += slow
        rows.append((first, count, started, ended, sample.tokens))
