"""The engine ``local``: processes of this machine, each with a model of its own and one thread."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from typing import Any

from mmllm_cli.batch_inputs import Block
from mmllm_cli.batch_worker import BatchSetup, Row, open_model, run_block
from mobile_multimodal.errors import MmllmError
from mobile_multimodal.interrupts import interrupts_held

__all__ = ["LocalEngine"]

THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
READY = "ready"


class LocalEngine:
    """Processes that take one block at a time; one that ends is replaced.

    Raises:
        MmllmError: a process cannot be started.
    """

    name = "local"

    def __init__(self, setup: BatchSetup, workers: int) -> None:
        self.workers = workers
        self._setup = setup
        self._processes: dict[Connection, Any] = {}
        self._ready: set[Connection] = set()
        try:
            for _ in range(workers):
                self._start()
        except BaseException:
            self.close()
            raise

    def results(self, take: Callable[[], Block | None]) -> Iterator[tuple[Block, list[Row] | None]]:
        """Run the blocks that ``take`` gives until it gives none, in whatever order they are done.

        None stands for the rows of a block at which a process ended. ``take`` is asked again after
        every result.

        Raises:
            MmllmError: a process could not open the model, or ended before it had.
        """
        busy: dict[Connection, Block] = {}
        idle = list(self._ready)
        while True:
            while idle and (block := take()) is not None:
                connection = idle.pop()
                busy[connection] = block
                try:
                    connection.send(block.items)
                except OSError:  # it has ended, which shows below
                    continue
            if not busy and (idle or not self._processes):
                return
            for connection in [c for c in wait(list(self._processes)) if isinstance(c, Connection)]:
                try:
                    answer = connection.recv()
                except (EOFError, OSError):
                    answer = None
                    self._replace(connection)
                    idle = [other for other in idle if other is not connection]
                else:
                    idle.append(connection)
                if isinstance(answer, MmllmError):
                    raise answer
                if answer == READY:
                    self._ready.add(connection)
                elif connection in busy:
                    yield busy.pop(connection), answer

    def close(self) -> None:
        """End the processes, whatever they are doing."""
        for connection, process in self._processes.items():
            process.terminate()
            connection.close()
        for process in self._processes.values():
            process.join(timeout=5)
            if process.is_alive():
                process.kill()
                process.join()
        self._processes.clear()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, self._setup), daemon=True)
        try:
            with interrupts_held(), _one_thread():
                process.start()
        except OSError as exc:
            raise MmllmError(
                f"a worker's process cannot be started: {exc.strerror}", remedy="try fewer --workers"
            ) from exc
        finally:
            theirs.close()
        self._processes[ours] = process

    def _replace(self, connection: Connection) -> None:
        process = self._processes.pop(connection)
        connection.close()
        process.join()
        if connection not in self._ready:
            raise MmllmError(
                f"a worker's process ended while it opened the model (exit code {process.exitcode})",
                remedy="try fewer --workers; MMLLM_DEBUG=1 shows what it says",
            )
        self._ready.discard(connection)
        self._start()


@contextmanager
def _one_thread() -> Iterator[None]:
    """NumPy's libraries read how many threads they may have when they are loaded, in the new process."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(THREADS)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _work(connection: Connection, setup: BatchSetup) -> None:
    """What a process does: open the model, run blocks until the other end is closed."""
    try:
        open_model(setup)
        connection.send(READY)
        while True:
            connection.send(run_block(setup, connection.recv()))
    except MmllmError as exc:
        connection.send(exc)
    except (EOFError, ConnectionError, KeyboardInterrupt):  # the run is over
        return
