"""What is behind the routes: the caches, the model's engine, and how well they are."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog

from mobile_multimodal.errors import MmllmError
from mobile_multimodal.model import MobileMultiModalLLM
from mobile_multimodal.results import TaskRequest, TaskResult
from serving.cache import MemoryCache, RedisTier, ResultCache, result_key
from serving.decoding import Decoder
from serving.engine import OCR, Engine
from serving.image_fetch import fetch_image
from serving.metrics import CACHE_BYTES, MODEL_INFO, READY, REDIS_UP, STAGE_SECONDS, ProcessWatch
from serving.places import PLACES_FILE, Places
from serving.request_body import Picture
from serving.settings import MIB, ServiceSettings

__all__ = ["Service"]

WATCH_S = 2.0
HIGH_MARK = 0.8
"""Share of the requests at once from which on the service asks for no more."""


class Service:
    """One process's share of the service; the model is loaded beside the answering of requests."""

    def __init__(self, settings: ServiceSettings) -> None:
        self.settings = settings
        self.began = time.time()
        file = os.environ.get(PLACES_FILE)
        self.places = Places(settings.max_concurrent_requests, Path(file) if file else None)
        self.engine: Engine | None = None
        self.state = "starting"
        self.failure: str | None = None
        self.redis = RedisTier(settings.redis_url) if settings.redis_url else None
        self.memory = MemoryCache(settings.cache_bytes_per_worker)
        self._results = ResultCache(self.memory, self.redis)
        self._decoder = Decoder()
        # No more than requests at once: a batch may name 32 pictures of MAX_BODY_MB each.
        self._fetches = asyncio.Semaphore(settings.bodies_per_worker)
        self._log = structlog.get_logger("mmllm.service")
        self._tasks: list[asyncio.Task[None]] = []
        self._loaded = asyncio.Event()

    async def start(self) -> None:
        """Begin to load the model; returns at once."""
        READY.set(0)
        self._tasks = [asyncio.create_task(self._load()), asyncio.create_task(self._watch())]

    async def stop(self) -> None:
        """Take no more work, finish what there is, and let everything go."""
        self.state = "stopping"
        READY.set(0)
        for task in self._tasks:
            task.cancel()
        if self.engine is not None:
            await asyncio.to_thread(self.engine.stop)
        self._decoder.close()
        if self.redis is not None:
            await self.redis.close()

    async def _load(self) -> None:
        try:
            model = await asyncio.to_thread(self._open)
        except MmllmError as exc:
            self.state, self.failure = "failed", str(exc)
            self._log.error("the model cannot be loaded", error=str(exc))
            self._loaded.set()
            return
        self.engine = Engine(model, batch_size=self.settings.batch_size, features=self.memory)
        self.engine.start()
        MODEL_INFO.labels(model.name, model.recipe, model.sha256).set(1)
        READY.set(1)
        self.state = "ready"
        self._loaded.set()
        self._log.info("ready", model=model.name, recipe=model.recipe)

    async def until_loaded(self, seconds: float) -> None:
        """Wait until the model is loaded, or cannot be, but no longer than this."""
        if not self._loaded.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._loaded.wait(), seconds)

    def _open(self) -> MobileMultiModalLLM:
        # Verifies the hashes and captions a picture, which warms the runtime up.
        return MobileMultiModalLLM(self.settings.model, threads=1, health_check_enabled=True)

    async def _watch(self) -> None:
        """Look after what nobody asks for: this process's own use, and whether Redis is back."""
        watch = ProcessWatch()
        if self.redis is None:
            REDIS_UP.set(0)
        while True:
            watch.look()
            CACHE_BYTES.set(self.memory.used_bytes)
            if self.redis is not None:
                await self.redis.ping()
            await asyncio.sleep(WATCH_S)

    def readiness(self) -> tuple[bool, dict[str, str]]:
        """Whether requests should come here, and each check with what it found."""
        taken, high = self.places.taken, max(1, int(HIGH_MARK * self.places.most))
        redis = "not configured"
        if self.redis is not None:
            redis = {None: "not asked yet", True: "up", False: "down: results are computed anew"}[
                self.redis.is_up
            ]
        checks = {
            "model": "ok" if self.state == "ready" else self.failure or self.state,
            "queue": "ok" if taken < high else f"{taken} requests are worked on, the mark is {high}",
            "redis": redis,
        }
        return checks["model"] == checks["queue"] == "ok", checks

    def status(self) -> dict[str, Any]:
        """How this process is, for its operator; no secrets."""
        hidden = {"redis_url", "api_keys_file"}
        is_ready, checks = self.readiness()
        return {
            "state": self.state,
            "ready": is_ready,
            "checks": checks,
            "process": os.getpid(),
            "uptime_s": round(time.time() - self.began, 1),
            "in_flight": self.places.taken,
            "waiting": 0 if self.engine is None else self.engine.waiting,
            "cache_bytes": self.memory.used_bytes,
            "model": None if self.engine is None else self.engine.model.name,
            "sha256": None if self.engine is None else self.engine.model.sha256,
            "settings": self.settings.model_dump(mode="json", exclude=hidden),
        }

    async def answer(self, picture: Picture) -> list[dict[str, Any]]:
        """The fields of an answer for every request on one picture.

        Raises:
            ImageError, FetchError, UsageError: the picture or a question cannot be used.
            EngineStoppedError: the service is about to end.
        """
        if picture.content is not None:
            return await self._answer(picture.content, picture.requests)
        async with self._fetches:
            began = time.perf_counter()
            content = await fetch_image(
                picture.url or "",
                strict=self.settings.security_strict_mode,
                max_bytes=self.settings.max_body_mb * MIB,
                timeout_s=self.settings.request_timeout_s,
            )
            STAGE_SECONDS.labels("fetch").observe(time.perf_counter() - began)
            return await self._answer(content, picture.requests)

    async def _answer(self, content: bytes, requests: Sequence[TaskRequest]) -> list[dict[str, Any]]:
        assert self.engine is not None
        model = self.engine.model
        digest = hashlib.sha256(content).hexdigest()
        keys = [result_key(digest, request, model.sha256) for request in requests]
        found = [await self._results.get(key) for key in keys]
        missing = [number for number, fields in enumerate(found) if fields is None]
        timings: dict[int, dict[str, float]] = {}
        if missing:
            asked = [requests[number] for number in missing]
            is_read = any(request.task == OCR for request in asked)
            async with self._decoder.picture(content, is_read=is_read) as image:
                results = await self.engine.run(image, digest, asked)
            for number, result in zip(missing, results, strict=True):
                fields = _fields(result)
                timings[number] = {name: round(ms, 3) for name, ms in result.timings_ms.items()}
                found[number] = fields
                await self._results.put(keys[number], fields)
        about = {"model": model.name, "recipe": model.recipe}
        return [
            {
                **(fields or {}),
                **about,
                "cached": number not in timings,
                "timings_ms": timings.get(number, {}),
            }
            for number, fields in enumerate(found)
        ]


def _fields(result: TaskResult) -> dict[str, Any]:
    """What is kept of a result, as JSON has it."""
    fields: dict[str, Any] = {
        "task": result.task,
        "text": result.text,
        "confidence": None if result.confidence is None else round(float(result.confidence), 4),
    }
    if result.question is not None:
        fields["question"] = result.question
    if result.regions is not None:
        fields["regions"] = [
            {
                "text": region.text,
                "box": [[round(float(x), 1), round(float(y), 1)] for x, y in region.box],
                "confidence": round(float(region.confidence), 4),
            }
            for region in result.regions
        ]
    return fields
