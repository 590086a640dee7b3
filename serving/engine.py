"""The model behind a bounded queue: whatever waits is written in one batch, and texts are read beside it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from mobile_multimodal.generation import ImageFeatures
from mobile_multimodal.image import LoadedImage
from mobile_multimodal.model import MobileMultiModalLLM
from mobile_multimodal.results import TaskRequest, TaskResult
from serving.cache import MemoryCache
from serving.metrics import BATCH_SIZE, QUEUE_DEPTH, STAGE_SECONDS

__all__ = ["OCR", "Engine", "EngineStoppedError"]

OCR = "ocr"


class EngineStoppedError(Exception):
    """The engine takes no more work."""


@dataclass
class _Job:
    """One picture and what is asked of it, for one of the two threads."""

    image: LoadedImage
    digest: str
    requests: Sequence[TaskRequest]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[list[TaskResult]]
    began: float = field(default_factory=time.perf_counter)

    def succeed(self, results: list[TaskResult]) -> None:
        self._settle(lambda: self.future.set_result(results))

    def fail(self, error: BaseException) -> None:
        self._settle(lambda: self.future.set_exception(error))

    def _settle(self, settle: Callable[[], None]) -> None:
        def safely() -> None:
            if not self.future.done():  # its client has gone, or its time is up
                settle()

        try:
            self.loop.call_soon_threadsafe(safely)
        except RuntimeError:  # the loop has ended, and with it everyone who waited
            return


class Engine:
    """Two threads around one model: one writes captions and answers, in batches; the other reads texts.

    There is no waiting for a batch to fill: what came while the last one was computed is the next.
    """

    def __init__(self, model: MobileMultiModalLLM, *, batch_size: int, features: MemoryCache) -> None:
        self.model = model
        self._batch_size = batch_size
        self._features = features
        self._waiting: dict[str, deque[_Job]] = {"write": deque(), "read": deque()}
        self._change = threading.Condition()
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._work, args=(kind, serve), name=f"mmllm-{kind}", daemon=True)
            for kind, serve in (("write", self._write), ("read", self._read))
        ]

    def start(self) -> None:
        """Begin to work."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Finish what waits, then end; blocks until then."""
        with self._change:
            self._stopping = True
            self._change.notify_all()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    @property
    def waiting(self) -> int:
        """Pictures in the queue."""
        return sum(len(jobs) for jobs in self._waiting.values())

    async def run(self, image: LoadedImage, digest: str, requests: Sequence[TaskRequest]) -> list[TaskResult]:
        """What is asked of one picture; ``digest`` names its content.

        A caller that is cancelled takes its work out of the queue.

        Raises:
            EngineStoppedError: the service is about to end.
            MmllmError: the model refuses a request, or cannot be run.
        """
        loop = asyncio.get_running_loop()
        parts = {
            "write": [number for number, request in enumerate(requests) if request.task != OCR],
            "read": [number for number, request in enumerate(requests) if request.task == OCR],
        }
        jobs = {
            kind: _Job(image, digest, [requests[number] for number in numbers], loop, loop.create_future())
            for kind, numbers in parts.items()
            if numbers
        }
        with self._change:
            if self._stopping:
                raise EngineStoppedError
            for kind, job in jobs.items():
                self._waiting[kind].append(job)
            self._count()
            self._change.notify_all()
        try:
            answers = await asyncio.gather(*(job.future for job in jobs.values()))
        except BaseException:
            for job in jobs.values():
                job.future.cancel()
            raise
        results: list[TaskResult | None] = [None] * len(requests)
        for kind, answered in zip(jobs, answers, strict=True):
            for number, result in zip(parts[kind], answered, strict=True):
                results[number] = result
        return [result for result in results if result is not None]

    def _count(self) -> None:
        QUEUE_DEPTH.set(self.waiting)

    def _work(self, kind: str, serve: Callable[[Sequence[_Job]], None]) -> None:
        waiting = self._waiting[kind]
        while True:
            with self._change:
                while not waiting and not self._stopping:
                    self._change.wait()
                if not waiting:
                    return
                jobs = self._take(waiting, self._batch_size if kind == "write" else 1)
                self._count()
            if not jobs:
                continue
            for job in jobs:
                STAGE_SECONDS.labels("queue").observe(time.perf_counter() - job.began)
            try:
                serve(jobs)
            except Exception as exc:  # noqa: BLE001 - a thread has no caller: whoever waits is told
                if len(jobs) == 1:
                    jobs[0].fail(exc)
                    continue
                for job in jobs:  # one picture or question must not spoil the others' batch
                    try:
                        serve([job])
                    except Exception as own:  # noqa: BLE001
                        job.fail(own)

    @staticmethod
    def _take(waiting: deque[_Job], most: int) -> list[_Job]:
        """Jobs from the front, of at most so many requests in all, but one at least; abandoned ones go."""
        jobs: list[_Job] = []
        rows = 0
        while waiting:
            if waiting[0].future.cancelled():
                waiting.popleft()
                continue
            rows += len(waiting[0].requests)
            if jobs and rows > most:
                break
            jobs.append(waiting.popleft())
        return jobs

    def _write(self, jobs: Sequence[_Job]) -> None:
        features = self._encode(jobs)
        rows = [(job, number) for job in jobs for number in range(len(job.requests))]
        order = np.array([index for index, job in enumerate(jobs) for _ in job.requests], dtype=np.int64)
        BATCH_SIZE.observe(len(rows))
        results = self.model.write(
            [job.image for job, _ in rows],
            features.take(order),
            [job.requests[number] for job, number in rows],
        )
        spent = sum(result.timings_ms["generate"] for result in results)
        STAGE_SECONDS.labels("generate").observe(spent / 1000)
        answers = iter(results)
        for job in jobs:
            job.succeed([next(answers) for _ in job.requests])

    def _encode(self, jobs: Sequence[_Job]) -> ImageFeatures:
        """Features of every job's picture, a row each; what was seen before is not looked at again."""
        known: dict[str, ImageFeatures] = {}
        for job in jobs:
            if job.digest in known:
                continue
            features = self._features.get(job.digest)
            if features is None:
                features, timings = self.model.encode([job.image])
                for stage, spent in timings.items():
                    STAGE_SECONDS.labels(stage).observe(spent / 1000)
                size = features.key.nbytes + features.value.nbytes + features.class_logits.nbytes
                self._features.put(job.digest, features, size)
            known[job.digest] = features
        chosen = [known[job.digest] for job in jobs]
        return ImageFeatures(
            np.concatenate([each.key for each in chosen], axis=1),
            np.concatenate([each.value for each in chosen], axis=1),
            np.concatenate([each.class_logits for each in chosen]),
        )

    def _read(self, jobs: Sequence[_Job]) -> None:
        for job in jobs:
            began = time.perf_counter()
            result = self.model.read(job.image)
            STAGE_SECONDS.labels("ocr").observe(time.perf_counter() - began)
            job.succeed([result] * len(job.requests))
