"""Caches: bytes are counted, keys part what differs, and Redis is never needed nor trusted."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from mobile_multimodal import TaskRequest
from serving.cache import OVERHEAD, PREFIX, MemoryCache, RedisTier, ResultCache, result_key
from tests.serving.real_redis import RealRedis, needs_redis

FIELDS = {"task": "caption", "text": "A cow.", "confidence": 0.5}


def test_different_questions_pictures_tasks_and_models_have_different_keys() -> None:
    requests = [TaskRequest("caption"), TaskRequest("ocr"), *(TaskRequest("vqa", q) for q in ("what", "who"))]
    keys = {
        result_key(content, request, model)
        for content, request, model in itertools.product(("a", "b"), requests, ("m", "n"))
    }
    assert len(keys) == 16
    assert result_key("a", TaskRequest("vqa", " what "), "m") == result_key(
        "a", TaskRequest("vqa", "what"), "m"
    )


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 400)), max_size=40))
def test_no_more_is_kept_than_fits_and_the_last_put_is_there(puts: list[tuple[str, int]]) -> None:
    cache = MemoryCache(1000)
    for key, size in puts:
        cache.put(key, (key, size), size)
        assert cache.get(key) == (key, size)
        assert 0 <= cache.used_bytes <= 1000
    kept = {key: size for key, size in puts if cache.get(key) is not None and cache.get(key)[1] == size}
    assert cache.used_bytes == sum(size + OVERHEAD for size in kept.values())


def test_what_was_unused_for_longest_goes_first() -> None:
    cache = MemoryCache(3 * OVERHEAD)
    for key in "abc":
        cache.put(key, key, 0)
    assert cache.get("a") == "a"
    cache.put("d", "d", 0)
    assert [cache.get(key) for key in "abcd"] == ["a", None, "c", "d"]
    cache.put("a", "too large", 3 * OVERHEAD)
    assert cache.get("a") is None


def test_without_redis_results_are_in_memory_alone() -> None:
    async def work() -> None:
        cache = ResultCache(MemoryCache(10_000), None)
        assert await cache.get("k") is None
        await cache.put("k", FIELDS)
        assert await cache.get("k") == FIELDS

    asyncio.run(work())


@needs_redis
def test_two_processes_share_results_and_garbage_is_not_believed(tmp_path: Path) -> None:
    async def work(url: str) -> None:
        one, other = (ResultCache(MemoryCache(10_000), RedisTier(url)) for _ in range(2))
        await one.put("k", FIELDS)
        assert await other.get("k") == FIELDS
        plain = redis.Redis.from_url(url)
        assert 0 < plain.ttl(PREFIX + "k") <= 24 * 3600
        for number, garbage in enumerate(
            (b"", b"\xff\xfe", b"[1]", b'"x"', b'{"text": 1}', b'{"text": "a", "b": 1}')
        ):
            plain.set(f"{PREFIX}{number}", garbage)
            assert await other.get(str(number)) is None, garbage
        plain.lpush(f"{PREFIX}list", "not a string")
        assert await other.get("list") is None

    with RealRedis(tmp_path) as server:
        asyncio.run(work(server.url))


@needs_redis
def test_redis_that_goes_costs_nothing_and_is_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.cache.SECONDS_AWAY", 0.05)

    async def work(server: RealRedis) -> None:
        tier = RedisTier(server.url)
        assert await tier.ping()
        server.kill()
        assert await tier.get("k") is None
        assert tier.is_up is False
        await tier.put("k", FIELDS)
        server.start()
        while not await tier.ping():
            await asyncio.sleep(0.02)
        await tier.put("k", FIELDS)
        assert await tier.get("k") == FIELDS
        assert tier.is_up is True

    with RealRedis(tmp_path) as server:
        asyncio.run(work(server))
