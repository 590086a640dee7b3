"""Requests are counted together through a real Redis, and still counted when there is none."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from mobile_multimodal.errors import UsageError
from serving import rate_limits
from serving.rate_limits import RateLimiter, RateVerdict
from tests.serving.real_redis import RealRedis, needs_redis

PREFIX = "mmllm:client/bob"


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for Redis as long as a busy machine needs."""
    monkeypatch.setattr(rate_limits, "REDIS_PATIENCE_S", 60.0)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RealRedis]:
    with RealRedis(tmp_path) as running:
        yield running


async def allowed(limiter: RateLimiter, identity: str, requests: int) -> int:
    return sum([(await limiter.hit(identity)).allowed for _ in range(requests)])


def with_limiters(use: Callable[..., Awaitable[None]], *limiters: RateLimiter) -> None:
    async def run() -> None:
        try:
            await use(*limiters)
        finally:
            for limiter in limiters:
                await limiter.aclose()

    asyncio.run(run())


async def until(met: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what comes by itself."""
    async with asyncio.timeout(60):
        while not await met():
            await asyncio.sleep(0.05)


def test_in_memory_each_client_has_its_own_limit() -> None:
    async def use(limiter: RateLimiter) -> None:
        verdicts = [await limiter.hit("bob") for _ in range(5)]
        assert [verdict.allowed for verdict in verdicts] == [True, True, True, False, False]
        assert [verdict.remaining for verdict in verdicts] == [2, 1, 0, 0, 0]
        assert verdicts[0] == RateVerdict(True, 3, 2, 0.0, "client")
        assert 0 < verdicts[-1].retry_after_s <= 60
        assert (await limiter.hit("ann")).allowed
        assert limiter.redis_up is None

    with_limiters(use, RateLimiter(3, None))


def test_the_service_has_a_limit_that_refused_requests_do_not_use_up() -> None:
    async def use(limiter: RateLimiter) -> None:
        assert await allowed(limiter, "loud", 50) == 2
        assert await allowed(limiter, "bob", 2) == 2
        verdict = await limiter.hit("ann")
        assert (verdict.allowed, verdict.limit, verdict.scope) == (True, 5, "service")
        verdict = await limiter.hit("eve")
        assert (verdict.allowed, verdict.limit, verdict.scope) == (False, 5, "service")
        assert 0 < verdict.retry_after_s <= 60

    with_limiters(use, RateLimiter(2, None, service_per_minute=5))


def test_the_services_limit_is_a_multiple_unless_given() -> None:
    async def use(limiter: RateLimiter) -> None:
        counts = [await allowed(limiter, f"client {number}", 3) for number in range(12)]
        assert counts == [2] * rate_limits.SERVICE_SHARE + [0, 0]

    with_limiters(use, RateLimiter(2, None))


def test_a_minute_that_ended_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 1000.0
    monkeypatch.setattr(rate_limits.time, "monotonic", lambda: clock)

    async def use(limiter: RateLimiter) -> None:
        nonlocal clock
        assert await allowed(limiter, "bob", 5) == 2
        verdict = await limiter.hit("bob")
        assert verdict.retry_after_s == 60
        clock += 59.5
        assert not (await limiter.hit("bob")).allowed
        clock += 1
        assert await allowed(limiter, "bob", 5) == 2

    with_limiters(use, RateLimiter(2, None))


@needs_redis
@pytest.mark.usefixtures("patient")
def test_two_workers_share_one_limit(server: RealRedis) -> None:
    async def use(one: RateLimiter, two: RateLimiter) -> None:
        counts = await asyncio.gather(allowed(one, "bob", 15), allowed(two, "bob", 15))
        assert sum(counts) == 20
        verdict = await two.hit("bob")
        assert (verdict.allowed, verdict.limit, verdict.remaining) == (False, 20, 0)
        assert 0 < verdict.retry_after_s <= 60
        assert await allowed(one, "ann", 3) == 3
        assert (one.redis_up, two.redis_up) == (True, True)

    with_limiters(use, RateLimiter(20, server.url), RateLimiter(20, server.url))


@needs_redis
@pytest.mark.usefixtures("patient")
def test_redis_is_killed_and_comes_back(server: RealRedis, caplog: pytest.LogCaptureFixture) -> None:
    async def use(one: RateLimiter, two: RateLimiter) -> None:
        assert await allowed(one, "bob", 10) == 10
        server.kill()
        # Each counts for itself now: nobody is refused for it, and nobody gets more than a limit.
        assert await allowed(one, "bob", 30) == 20
        assert await allowed(two, "bob", 30) == 20
        assert (one.redis_up, two.redis_up) == (False, False)
        server.start()
        for limiter in (one, two):

            async def is_back(limiter: RateLimiter = limiter) -> bool:
                await limiter.hit("somebody")
                return bool(limiter.redis_up)

            await until(is_back)
        assert await allowed(one, "ann", 10) + await allowed(two, "ann", 15) == 20

    with caplog.at_level(logging.INFO):
        with_limiters(use, RateLimiter(20, server.url), RateLimiter(20, server.url))
    told = [record.message for record in caplog.records if record.name == "serving.rate_limits"]
    assert len(told) == 4
    assert sum("each worker counts for itself" in line for line in told) == 2
    assert sum("Redis is back" in line for line in told) == 2


@needs_redis
@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize(
    "fill",
    [
        lambda client, key: client.set(key, "garbage"),
        lambda client, key: client.set(key, b"\xff\x00" * 1000),
        lambda client, key: client.rpush(key, "1", "2"),
        lambda client, key: client.hset(key, "a", "b"),
        lambda client, key: client.set(key, 10**6),  # too many, and would never end
        lambda client, key: client.set(key, -(10**6)),
        lambda client, key: client.set(key, 10**6, ex=10**6),
        lambda client, key: client.set(key, 2**63 - 1),
    ],
    ids=["text", "bytes", "list", "hash", "endless", "negative", "too-long", "overflow"],
)
def test_garbage_in_a_counter_is_removed(server: RealRedis, fill: Callable[[Any, str], object]) -> None:
    client = redis.Redis.from_url(server.url)

    async def use(limiter: RateLimiter) -> None:
        await limiter.hit("bob")
        [key] = client.keys(f"{PREFIX}*")
        client.delete(key)
        fill(client, key)
        assert await allowed(limiter, "bob", 12) == 10
        assert limiter.redis_up
        assert 0 < client.ttl(key) <= 60

    with_limiters(use, RateLimiter(10, server.url))
    client.close()


@needs_redis
@pytest.mark.usefixtures("patient")
def test_a_full_redis_refuses_nobody(tmp_path: Path) -> None:
    with RealRedis(tmp_path, "--maxmemory", "1", "--maxmemory-policy", "noeviction") as full:

        async def use(limiter: RateLimiter) -> None:
            assert await allowed(limiter, "bob", 12) == 10
            assert limiter.redis_up is False

        with_limiters(use, RateLimiter(10, full.url))


@pytest.mark.parametrize(
    "answer",
    [None, b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b":\r\n", b"$99999999999999\r\n", b"\x00\xff" * 2000],
    ids=["silence", "closes", "http", "no-number", "endless", "noise"],
)
def test_what_is_no_redis_refuses_nobody(answer: bytes | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "REDIS_PAUSE_S", 0.0)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if answer is None:
            await reader.read()
        elif await reader.read(1):
            writer.write(answer)
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        limiter = RateLimiter(3, f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        assert await allowed(limiter, "bob", 5) == 3
        assert limiter.redis_up is False
        await limiter.aclose()
        server.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    "url",
    ["", "localhost", "http://localhost", "redis://h:hunter2@x:99999", "redis://:hunter2@x/0?nothing=1"],
)
def test_an_address_that_cannot_be_redis_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(UsageError, match="REDIS_URL is not the address of a Redis") as caught:
        RateLimiter(1000, url)
    assert "hunter2" not in str(caught.value)


def test_a_password_is_in_no_log_and_no_repr(caplog: pytest.LogCaptureFixture) -> None:
    async def use(limiter: RateLimiter) -> None:
        assert (await limiter.hit("bob")).allowed
        assert limiter.redis_up is False
        assert "hunter2" not in repr(limiter)

    with caplog.at_level(logging.DEBUG):
        with_limiters(use, RateLimiter(3, "redis://user:hunter2@127.0.0.1:1/0"))
    assert "Redis failed (ConnectionError)" in caplog.text
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize("limits", [(0, None), (-1, None), (5, 0)])
def test_a_limit_that_lets_nothing_through_is_refused(limits: tuple[int, int | None]) -> None:
    with pytest.raises(UsageError, match="lets nothing through"):
        RateLimiter(limits[0], None, service_per_minute=limits[1])
