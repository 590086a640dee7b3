"""What was computed before: features and results in memory, results in Redis where it is there.

Redis may be gone, slow, or full of garbage: then results are computed anew, and it is asked again a little
later. Nothing that it holds is trusted before it is parsed.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import orjson
import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from mobile_multimodal.results import TaskRequest
from serving.metrics import CACHE_HITS, CACHE_MISSES, REDIS_UP

__all__ = ["MemoryCache", "RedisTier", "ResultCache", "result_key"]

SECONDS_KEPT = 24 * 3600
REDIS_TIMEOUT_S = 0.1
SECONDS_AWAY = 1.0
"""How long Redis is left alone after it failed."""
PREFIX = "mmllm:result:"
OVERHEAD = 200
"""Bytes that an entry takes besides its value, roughly."""
FIELDS = {"task", "text", "confidence", "question", "regions"}


def result_key(content: str, request: TaskRequest, model: str) -> str:
    """The name of a result: the picture's content, what was asked, and the model that answers."""
    asked = f"{request.task}\0{(request.question or '').strip()}\0{content}\0{model}"
    return hashlib.sha256(asked.encode()).hexdigest()


class MemoryCache:
    """The values last used, up to a number of bytes; safe to share between threads."""

    def __init__(self, most_bytes: int) -> None:
        self._most, self._used = most_bytes, 0
        self._values: OrderedDict[str, tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> Any:
        """The value, or None."""
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key][0]

    def put(self, key: str, value: Any, size: int) -> None:
        """Keep a value of ``size`` bytes; the values unused for longest go."""
        size += OVERHEAD
        with self._lock:
            if key in self._values:
                self._used -= self._values.pop(key)[1]
            if size > self._most:
                return
            self._values[key] = value, size
            self._used += size
            while self._used > self._most:
                _, (_, freed) = self._values.popitem(last=False)
                self._used -= freed

    @property
    def used_bytes(self) -> int:
        """What is kept, in bytes."""
        return self._used


class RedisTier:
    """Results in Redis, shared by all workers; every failure counts as a result that is not there."""

    def __init__(self, url: str) -> None:
        self._client: Redis = Redis.from_url(
            url,
            socket_timeout=REDIS_TIMEOUT_S,
            socket_connect_timeout=REDIS_TIMEOUT_S,
            retry=Retry(NoBackoff(), 1),  # for connections that Redis left while it was away
        )
        self._away_until = 0.0
        self._log = structlog.get_logger("mmllm.cache")
        self.is_up: bool | None = None

    async def get(self, key: str) -> dict[str, Any] | None:
        """The fields of a result, or None."""
        if time.monotonic() < self._away_until:
            return None
        try:
            content = await self._client.get(PREFIX + key)
        except (RedisError, OSError, TimeoutError) as exc:
            self._failed(exc)
            return None
        self._succeeded()
        if content is None:
            return None
        try:
            fields = orjson.loads(content)
        except orjson.JSONDecodeError:
            fields = None
        if (
            not isinstance(fields, dict)
            or not fields.keys() <= FIELDS
            or not isinstance(fields.get("text"), str)
        ):
            self._log.warning("redis holds garbage", key=key)
            return None
        return fields

    async def put(self, key: str, fields: Mapping[str, Any]) -> None:
        """Keep the fields of a result for a day."""
        if time.monotonic() < self._away_until:
            return
        try:
            await self._client.set(PREFIX + key, orjson.dumps(dict(fields)), ex=SECONDS_KEPT)
        except (RedisError, OSError, TimeoutError) as exc:
            self._failed(exc)
        else:
            self._succeeded()

    async def ping(self) -> bool:
        """Whether Redis answers now."""
        try:
            await self._client.ping()
        except (RedisError, OSError, TimeoutError) as exc:
            self._failed(exc)
            return False
        self._succeeded()
        return True

    async def close(self) -> None:
        """Let the connections go."""
        await self._client.aclose()

    def _failed(self, exc: BaseException) -> None:
        self._away_until = time.monotonic() + SECONDS_AWAY
        REDIS_UP.set(0)
        if self.is_up is not False:
            self._log.warning("redis does not answer", error=type(exc).__name__)
        self.is_up = False

    def _succeeded(self) -> None:
        self._away_until = 0.0
        REDIS_UP.set(1)
        if self.is_up is False:
            self._log.info("redis answers again")
        self.is_up = True


class ResultCache:
    """Results by their key, first in memory, then in Redis."""

    def __init__(self, memory: MemoryCache, redis: RedisTier | None) -> None:
        self._memory, self._redis = memory, redis

    async def get(self, key: str) -> dict[str, Any] | None:
        """The fields of a result, or None; counts hits and misses."""
        fields: dict[str, Any] | None = self._memory.get(key)
        if fields is not None:
            CACHE_HITS.labels("memory").inc()
            return fields
        if self._redis is not None and (fields := await self._redis.get(key)) is not None:
            CACHE_HITS.labels("redis").inc()
            self._memory.put(key, fields, len(orjson.dumps(fields)))
            return fields
        CACHE_MISSES.inc()
        return None

    async def put(self, key: str, fields: dict[str, Any]) -> None:
        """Keep the fields of a result."""
        self._memory.put(key, fields, len(orjson.dumps(fields)))
        if self._redis is not None:
            await self._redis.put(key, fields)
