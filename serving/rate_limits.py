"""How many requests a minute: counted in Redis for all workers together, in memory while Redis is away."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Any, Literal

from mobile_multimodal.errors import MissingExtraError, UsageError

try:
    from limits import RateLimitItem, RateLimitItemPerMinute
    from limits.aio.storage import RedisStorage
    from redis.asyncio import ConnectionPool
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import RedisError, ResponseError
except ImportError as exc:
    raise MissingExtraError(exc.name or "limits", "serve") from exc

__all__ = ["REDIS_PATIENCE_S", "REDIS_PAUSE_S", "SERVICE_SHARE", "RateLimiter", "RateVerdict"]

REDIS_PATIENCE_S = 0.25
"""The longest that a request waits for Redis before it is counted in memory."""
REDIS_PAUSE_S = 1.0
"""How long Redis is left alone after it failed; then one request tries it again."""
SERVICE_SHARE = 10
"""The whole service takes as many requests as this many clients at their limit."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class RateVerdict:
    """Whether a request may go on, and how the limit stands that decides it.

    ``scope`` says whose limit that is. ``limit`` and ``remaining`` are requests within its minute;
    ``retry_after_s`` are the seconds until the minute ends, 0 where the request is allowed.
    """

    allowed: bool
    limit: int
    remaining: int
    retry_after_s: float
    scope: Literal["client", "service"]


class RateLimiter:
    """Counts requests of each client and of the whole service, in minutes that begin with a first request.

    A client never has more than its limit within its minute, nor more than twice that in any 60 seconds.
    What is refused to a client does not count for the service.

    While Redis is gone, slow, full or full of garbage, each process counts for itself, from nothing.
    No request fails for it or waits longer than :data:`REDIS_PATIENCE_S` for each of the two counts; a
    request a :data:`REDIS_PAUSE_S` tries Redis again. A counter that is no number, or that would never
    end, is removed.

    ``service_per_minute`` is ``per_minute`` times :data:`SERVICE_SHARE` unless given.

    Raises:
        UsageError: a limit below 1, or an address of Redis that cannot be one.
    """

    def __init__(
        self, per_minute: int, redis_url: str | None, *, service_per_minute: int | None = None
    ) -> None:
        of_service = per_minute * SERVICE_SHARE if service_per_minute is None else service_per_minute
        if min(per_minute, of_service) < 1:
            raise UsageError(
                f"a rate limit of {min(per_minute, of_service)} a minute lets nothing through",
                remedy="set RATE_LIMIT_PER_MINUTE to 1 or more",
            )
        self._of_client = RateLimitItemPerMinute(per_minute, namespace="client")
        self._of_service = RateLimitItemPerMinute(of_service, namespace="service")
        self._memory = _MemoryCounts()
        self._pool = None if redis_url is None else _connections(redis_url)
        self._redis = None if self._pool is None else _redis_storage(self._pool)
        self._is_up = True
        self._try_again_at = 0.0

    @property
    def redis_up(self) -> bool | None:
        """Whether Redis answered when it was last asked; None without Redis."""
        return None if self._redis is None else self._is_up

    async def hit(self, identity: str) -> RateVerdict:
        """Count one request of a client, and say whether it may go on.

        ``identity`` is a key's id or an address, and never a key: it is stored as it is.
        """
        client = await self._verdict(self._of_client, identity, "client")
        if not client.allowed:
            return client
        service = await self._verdict(self._of_service, "all", "service")
        return service if not service.allowed or service.remaining < client.remaining else client

    async def aclose(self) -> None:
        """Close the connections to Redis."""
        if self._pool is not None:
            await self._pool.aclose()

    async def _verdict(
        self, limit: RateLimitItem, identity: str, scope: Literal["client", "service"]
    ) -> RateVerdict:
        requests, ends_in_s = await self._count(limit, limit.key_for(identity))
        remaining = max(0, limit.amount - requests)
        return RateVerdict(requests <= limit.amount, limit.amount, remaining, ends_in_s, scope)

    async def _count(self, limit: RateLimitItem, key: str) -> tuple[int, float]:
        """Requests in this minute with this one, and the seconds until it ends where they are too many."""
        if self._redis is None or not self._may_try():
            return self._memory.count(limit, key)
        try:
            async with asyncio.timeout(REDIS_PATIENCE_S):
                count = await _counted_in_redis(self._redis, limit, key)
        except Exception as exc:  # noqa: BLE001 - whatever answers in Redis's place, the request goes on
            self._failed(exc)
            return self._memory.count(limit, key)
        if not self._is_up:
            self._is_up = True
            _LOG.warning("Redis is back: rate limits are shared again")
        return count

    def _may_try(self) -> bool:
        now = time.monotonic()
        if self._is_up:
            return True
        if now < self._try_again_at:
            return False
        self._try_again_at = now + REDIS_PAUSE_S  # the others leave it to this one request
        return True

    def _failed(self, error: Exception) -> None:
        self._try_again_at = time.monotonic() + REDIS_PAUSE_S
        if self._is_up:
            self._is_up = False
            # The kind alone: texts of errors can hold addresses and names of users.
            _LOG.warning("Redis failed (%s): each worker counts for itself", type(error).__name__)


def _connections(redis_url: str) -> ConnectionPool:
    try:
        pool = ConnectionPool.from_url(
            redis_url,
            socket_timeout=REDIS_PATIENCE_S,
            socket_connect_timeout=REDIS_PATIENCE_S,
            retry=Retry(NoBackoff(), 1),  # a connection of before Redis was restarted
        )
        # Options that redis-py does not know are refused here, and not when the first request comes.
        pool.connection_class(**pool.connection_kwargs)
    except (ValueError, TypeError, RedisError) as exc:
        # Not shown: it may hold a password.
        raise UsageError(
            "REDIS_URL is not the address of a Redis",
            remedy="give redis://HOST:PORT, rediss://HOST:PORT or unix:///PATH",
        ) from exc
    return pool


def _redis_storage(pool: ConnectionPool) -> RedisStorage:
    # Only the pool knows the address, and with it a password.
    options: dict[str, Any] = {"connection_pool": pool}
    return RedisStorage("async+redis://", implementation="redispy", key_prefix="mmllm", **options)


async def _counted_in_redis(redis: RedisStorage, limit: RateLimitItem, key: str) -> tuple[int, float]:
    try:
        requests, ends_in_s = await _counted(redis, limit, key)
        is_a_count = 1 <= requests <= limit.amount or 0 < ends_in_s <= limit.get_expiry()
    except ResponseError:
        is_a_count = False  # another kind of value
    if is_a_count:
        return requests, ends_in_s
    await redis.clear(key)
    return await _counted(redis, limit, key)


async def _counted(redis: RedisStorage, limit: RateLimitItem, key: str) -> tuple[int, float]:
    requests = await redis.incr(key, limit.get_expiry())
    if requests <= limit.amount:
        return requests, 0.0
    return requests, max(0.0, await redis.get_expiry(key) - time.time())


class _MemoryCounts:
    """Counts of this process alone.

    The memory of ``limits`` looks through every key at every count: 1.8 ms with 20,000 clients. This one
    does so once a minute.
    """

    def __init__(self) -> None:
        self._windows: dict[str, tuple[int, float]] = {}
        self._swept_at = 0.0

    def count(self, limit: RateLimitItem, key: str) -> tuple[int, float]:
        now, window_s = time.monotonic(), limit.get_expiry()
        if now - self._swept_at > window_s:
            self._windows = {name: window for name, window in self._windows.items() if window[1] > now}
            self._swept_at = now
        requests, ends_at = self._windows.get(key, (0, 0.0))
        if ends_at <= now:
            requests, ends_at = 0, now + window_s
        requests += 1
        self._windows[key] = requests, ends_at
        return requests, 0.0 if requests <= limit.amount else ends_at - now
