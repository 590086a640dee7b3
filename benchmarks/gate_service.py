"""A service under load from here: captions asked for by several clients at once, its three status pages."""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from benchmarks.gate_pictures import GATE_PICTURES, picture_bytes
from mobile_multimodal.errors import UsageError

__all__ = ["CAPTION_PATH", "Load", "LoadPlan", "Page", "ServiceRun", "exposition_errors"]

CAPTION_PATH = "/api/v1/caption"
SIDE = 224
LARGEST_ANSWER = 2**22
UNREACHABLE = (OSError, http.client.HTTPException)
SAMPLE = re.compile(
    r"[a-zA-Z_:][a-zA-Z0-9_:]*"
    r'(?:\{(?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\"n])*"(?:,|(?=\})))*\})?'
    r"[ \t]+(?P<value>\S+)(?:[ \t]+-?\d+)?"
)
COMMENT = re.compile(
    r"# (?:HELP [a-zA-Z_:][a-zA-Z0-9_:]*(?: .*)?|TYPE [a-zA-Z_:][a-zA-Z0-9_:]* (?P<type>\w+))"
)
TYPES = frozenset(("counter", "gauge", "histogram", "summary", "untyped"))


@dataclass(frozen=True)
class LoadPlan:
    """How a service is loaded: it ends after ``requests``, or after ``seconds`` where that comes first.

    Of ten requests one brings a picture that the service has not seen, the others repeat one of those
    before, so that a cache that works serves close to nine tenths.

    Raises:
        ValueError: a number that is not above 0, or a share outside 0..1.
    """

    requests: int = 3000
    seconds: float = 20.0
    clients: int = 8
    repeated: float = 0.9
    timeout_s: float = 10.0

    def __post_init__(self) -> None:
        if min(self.requests, self.clients, self.seconds, self.timeout_s) <= 0:
            raise ValueError(f"{self} has a number that is not above 0")
        if not 0.0 <= self.repeated < 1.0:
            raise ValueError(f"the share of repeated pictures {self.repeated} is outside 0..1")


@dataclass(frozen=True)
class Page:
    """What a status page gave: ``status`` 0 and the reason as ``text`` where it gave nothing."""

    status: int
    text: str


@dataclass(frozen=True)
class Load:
    """What the clients saw: ``latencies_ms`` of good answers, every problem with how often it came.

    ``cached`` counts good answers that say they came from the cache, ``told`` those that say whether.
    """

    latencies_ms: tuple[float, ...]
    problems: Counter[str]
    cached: int
    told: int
    seconds: float

    @property
    def asked(self) -> int:
        """All requests that were answered or failed."""
        return len(self.latencies_ms) + self.problems.total()


class ServiceRun:
    """A service at a URL; it is loaded once, when that is first looked at.

    ``api_key`` goes along with every request, as ``X-API-Key``.

    Raises:
        UsageError: no http(s) URL with a host, or a key that no header can hold.
    """

    def __init__(self, url: str, plan: LoadPlan | None = None, api_key: str | None = None) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as exc:
            raise UsageError(f"{url!r} is no URL: {exc}", remedy="--service http://127.0.0.1:8080") from exc
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise UsageError(f"{url!r} is not the URL of a service", remedy="--service http://127.0.0.1:8080")
        if api_key is not None and not (api_key.isascii() and api_key.isprintable()):
            raise UsageError("the API key holds characters that no header can", remedy="check MMLLM_API_KEY")
        self.url, self.plan = url, plan or LoadPlan()
        self._headers = {"Accept": "application/json, text/plain"}
        if api_key:
            self._headers["X-API-Key"] = api_key
        self._host, self._port, self._base = parts.hostname, port, parts.path.rstrip("/")
        self._secure = parts.scheme == "https"

    def _connect(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        return kind(self._host, self._port, timeout=self.plan.timeout_s)

    def page(self, path: str) -> Page:
        """A page of the service, of which at most 4 MiB are read."""
        connection = self._connect()
        try:
            connection.request("GET", self._base + path, headers=self._headers)
            response = connection.getresponse()
            return Page(response.status, self._read(response).decode("utf-8", "replace"))
        except UNREACHABLE as exc:
            return Page(0, f"{type(exc).__name__}: {exc}")
        finally:
            connection.close()

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        """The body, whole. The timeout of a connection is for each piece; this one is for all of them."""
        until = time.monotonic() + self.plan.timeout_s
        data = bytearray()
        while piece := response.read1(2**16):
            data += piece
            if len(data) > LARGEST_ANSWER or time.monotonic() > until:
                raise TimeoutError(f"more than {LARGEST_ANSWER:,} bytes or {self.plan.timeout_s:g} s")
        response.close()  # read1 leaves it open at its end, and the connection refuses another request
        return bytes(data)

    @cached_property
    def load(self) -> Load:
        """The answers to all requests of the plan."""
        bodies = _Bodies(self.plan)
        deadline = time.monotonic() + self.plan.seconds
        started = time.monotonic()
        with ThreadPoolExecutor(self.plan.clients) as pool:
            parts = list(pool.map(lambda _: self._client(bodies, deadline), range(self.plan.clients)))
        seconds = time.monotonic() - started
        problems: Counter[str] = Counter()
        for part in parts:
            problems.update(part.problems)
        return Load(
            tuple(x for part in parts for x in part.latencies_ms),
            problems,
            sum(part.cached for part in parts),
            sum(part.told for part in parts),
            seconds,
        )

    def _client(self, bodies: _Bodies, deadline: float) -> Load:
        latencies: list[float] = []
        problems: Counter[str] = Counter()
        cached = told = 0
        connection = self._connect()
        try:
            while time.monotonic() < deadline and (body := bodies.next()) is not None:
                began = time.perf_counter()
                problem, hit = self._ask(connection, body)
                spent = 1000.0 * (time.perf_counter() - began)
                if problem:
                    problems[problem] += 1
                    connection.close()  # the next request opens it again
                    continue
                latencies.append(spent)
                told += hit is not None
                cached += bool(hit)
        finally:
            connection.close()
        return Load(tuple(latencies), problems, cached, told, 0.0)

    def _ask(self, connection: http.client.HTTPConnection, body: bytes) -> tuple[str, bool | None]:
        """One caption: what was wrong, or nothing; and whether it came from the cache, where it says so."""
        headers = {**self._headers, "Content-Type": "application/json"}
        try:
            connection.request("POST", self._base + CAPTION_PATH, body, headers)
            response = connection.getresponse()
            data = self._read(response)
        except UNREACHABLE as exc:
            return type(exc).__name__, None
        if response.status != 200:
            return f"status {response.status}", None
        try:
            answer = json.loads(data)
        except ValueError:
            return "an answer that is not JSON", None
        text = answer.get("text") if isinstance(answer, dict) else None
        if not isinstance(text, str) or not text.strip():
            return "an answer without text", None
        hit = answer.get("cached")
        return "", hit if isinstance(hit, bool) else None


class _Bodies:
    """The requests in their order, shared by all clients; pictures are new ones in every run."""

    def __init__(self, plan: LoadPlan) -> None:
        self._plan = plan
        self._rng = np.random.default_rng(int.from_bytes(os.urandom(8), "big"))
        self._photos = [
            np.asarray(Image.open(io.BytesIO(picture_bytes(picture))).convert("RGB").resize((SIDE, SIDE)))
            for picture in GATE_PICTURES
        ]
        self._seen: list[bytes] = []
        self._sent = 0
        self._lock = threading.Lock()

    def next(self) -> bytes | None:
        """The body of the next request, JSON with the picture in base64; None after the last."""
        with self._lock:
            if self._sent == self._plan.requests:
                return None
            self._sent += 1
            if self._seen and self._rng.random() < self._plan.repeated:
                return self._seen[int(self._rng.integers(len(self._seen)))]
            body = self._new()
            self._seen.append(body)
            return body

    def _new(self) -> bytes:
        """A photo that no run has sent before: a few of its pixels are other ones."""
        pixels = self._photos[len(self._seen) % len(self._photos)].copy()
        pixels[:4, :4] = self._rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, format="JPEG", quality=90)
        return json.dumps({"image_base64": base64.b64encode(stream.getvalue()).decode("ascii")}).encode()


def exposition_errors(text: str) -> Sequence[str]:
    """What is wrong with metrics in Prometheus' text format, at most a line each; nothing if all is well.

    See https://prometheus.io/docs/instrumenting/exposition_formats/. A page without samples is wrong.
    """
    errors, samples = [], 0
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        if line.startswith("#"):
            match = COMMENT.fullmatch(line)
            is_word = line.startswith(("# HELP", "# TYPE"))
            if is_word and (match is None or (match["type"] or "counter") not in TYPES):
                errors.append(f"line {number}: {line[:60]}")
            continue
        match = SAMPLE.fullmatch(line)
        if match is None or not _is_value(match["value"]):
            errors.append(f"line {number}: {line[:60]}")
        samples += 1
    if not samples:
        errors.append("no samples")
    return errors


def _is_value(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
