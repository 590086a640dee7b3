"""The queue before the model: what waits makes a batch, and one bad request spoils nobody else's."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import numpy as np
import pytest

from mobile_multimodal import LoadedImage, MobileMultiModalLLM, TaskRequest, TaskResult
from mobile_multimodal.errors import UsageError
from serving.cache import MemoryCache
from serving.engine import Engine, EngineStoppedError

CAPTION = TaskRequest("caption")


def picture(seed: int) -> LoadedImage:
    return LoadedImage(np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8), str(seed))


class Watched(MobileMultiModalLLM):
    """The packaged model, which notes the sizes of batches and can be held."""

    def __init__(self) -> None:
        super().__init__(threads=1)
        self.batches: list[int] = []
        self.encoded = 0
        self.go = threading.Event()
        self.go.set()
        self.working = threading.Event()

    def encode(self, images: Sequence[LoadedImage]):  # type: ignore[no-untyped-def]
        self.working.set()
        assert self.go.wait(60)
        self.encoded += len(images)
        return super().encode(images)

    def write(self, images, features, requests, generation=None):  # type: ignore[no-untyped-def]
        self.batches.append(len(requests))
        return super().write(images, features, requests, generation)


@pytest.fixture(scope="module")
def model() -> Watched:
    return Watched()


def run_held(
    model: Watched, engine: Engine, jobs: Sequence[tuple[int, Sequence[TaskRequest]]]
) -> list[object]:
    """Let one picture occupy the model until all jobs wait, then let go → the results of the jobs."""

    async def all_of_them() -> list[object]:
        model.go.clear()
        model.working.clear()
        first = asyncio.create_task(engine.run(picture(999), "first", [CAPTION]))
        await asyncio.to_thread(model.working.wait, 60)
        waiting = [asyncio.create_task(engine.run(picture(s), str(s), requests)) for s, requests in jobs]
        while engine.waiting < len(jobs):
            await asyncio.sleep(0.001)
        model.go.set()
        await first
        return list(await asyncio.gather(*waiting, return_exceptions=True))

    return asyncio.run(all_of_them())


@pytest.fixture
def engine(model: Watched):  # type: ignore[no-untyped-def]
    model.batches.clear()
    model.encoded = 0
    engine = Engine(model, batch_size=4, features=MemoryCache(0))
    engine.start()
    yield engine
    engine.stop()


def test_what_waits_is_written_together_and_each_gets_its_own(model: Watched, engine: Engine) -> None:
    asked = TaskRequest("vqa", "what color is it?")
    jobs = [(1, [CAPTION]), (2, [asked, CAPTION]), (3, [asked]), (1, [asked]), (4, [CAPTION])]
    results = run_held(model, engine, jobs)
    assert model.batches == [1, 4, 2]
    alone = [[model.run([picture(seed)], [request])[0][0] for request in requests] for seed, requests in jobs]
    for found, expected in zip(results, alone, strict=True):
        assert isinstance(found, list)
        assert [(x.task, x.text) for x in found] == [(x.task, x.text) for x in expected]


def test_a_picture_is_looked_at_once_while_it_is_remembered(model: Watched) -> None:
    engine = Engine(model, batch_size=4, features=MemoryCache(2**24))
    engine.start()
    model.encoded = 0
    for _ in range(3):
        asyncio.run(engine.run(picture(5), "5", [CAPTION]))
    assert model.encoded == 1
    engine.stop()


def test_one_bad_request_does_not_spoil_the_batch(model: Watched, engine: Engine) -> None:
    endless = TaskRequest("vqa", "zq xk " * 45)
    results = run_held(model, engine, [(1, [CAPTION]), (2, [endless]), (3, [CAPTION])])
    assert isinstance(results[1], UsageError)
    assert [isinstance(results[i], list) for i in (0, 2)] == [True, True]


def test_who_has_gone_is_not_served(model: Watched, engine: Engine) -> None:
    async def leave() -> list[TaskResult]:
        model.go.clear()
        model.working.clear()
        first = asyncio.create_task(engine.run(picture(1), "1", [CAPTION]))
        await asyncio.to_thread(model.working.wait, 60)
        gone = asyncio.create_task(engine.run(picture(2), "2", [CAPTION]))
        while engine.waiting < 1:
            await asyncio.sleep(0.001)
        gone.cancel()
        await asyncio.sleep(0)
        model.go.set()
        await first
        return await engine.run(picture(3), "3", [CAPTION])

    assert asyncio.run(leave())[0].text
    assert model.encoded == 2


def test_text_is_read_beside_captions_and_comes_in_its_place(model: Watched, engine: Engine) -> None:
    results = asyncio.run(engine.run(picture(1), "1", [TaskRequest("ocr"), CAPTION]))
    assert [result.task for result in results] == ["ocr", "caption"]


def test_a_stop_finishes_what_waits_and_takes_no_more(model: Watched) -> None:
    engine = Engine(model, batch_size=4, features=MemoryCache(0))
    engine.start()

    async def stopped() -> list[list[TaskResult]]:
        jobs = [asyncio.create_task(engine.run(picture(seed), str(seed), [CAPTION])) for seed in range(5)]
        await asyncio.sleep(0)
        await asyncio.to_thread(engine.stop)
        with pytest.raises(EngineStoppedError):
            await engine.run(picture(9), "9", [CAPTION])
        return await asyncio.gather(*jobs)

    assert all(results[0].text for results in asyncio.run(stopped()))
