"""The service in this process with the packaged model, pictures for it, and its figures."""

from __future__ import annotations

import io
import itertools
import time
from pathlib import Path

import numpy as np
from fastapi.testclient import TestClient
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from serving.app import create_app
from serving.settings import ServiceSettings

IMAGES = Path(__file__).resolve().parents[2] / "examples/images"
COWS = (IMAGES / "cows.jpg").read_bytes()
JPEG = {"content-type": "image/jpeg"}
COUNTER = itertools.count()


def settings(**chosen: object) -> ServiceSettings:
    values: dict[str, object] = {"redis_url": "", "max_workers": 1, "allow_anonymous": True, **chosen}
    return ServiceSettings(**values)  # type: ignore[arg-type]


def opened(**chosen: object) -> TestClient:
    return TestClient(create_app(settings(**chosen)), raise_server_exceptions=False)


def until_ready(client: TestClient) -> None:
    ends = time.monotonic() + 120
    while client.get("/ready").status_code != 200:
        assert time.monotonic() < ends, client.get("/ready").text
        time.sleep(0.05)


def new_picture() -> bytes:
    """A picture that was never sent before."""
    pixels = np.random.default_rng(next(COUNTER)).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def figure(client: TestClient, metric: str, /, **labels: str) -> float:
    families = text_string_to_metric_families(client.get("/metrics").text)
    return sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == metric and labels.items() <= sample.labels.items()
    )
