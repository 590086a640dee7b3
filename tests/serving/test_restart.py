"""Instances that are stopped and started again behind the deployment's nginx, under load: nothing is lost."""

from __future__ import annotations

import http.client
import io
import itertools
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from tests.deployment.deployment_files import tool
from tests.deployment.edge import Edge, fixed_instances, running_edge
from tests.serving.live_service import LiveService
from tests.serving.test_live import PICTURE, wait_for

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
ENOUGH = 500


def small_picture() -> bytes:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(PICTURE)).resize((224, 224)).save(buffer, "JPEG")
    return buffer.getvalue()


@contextmanager
def load(edge: Edge, *, clients: int = 6) -> Iterator[list[str]]:
    """Captions through nginx, one of two of a new picture → what became of each."""
    ends: list[str] = []
    stop = threading.Event()
    numbers = itertools.count()
    picture = small_picture()

    def ask() -> None:
        while not stop.is_set():
            number = next(numbers)
            body = picture + (number.to_bytes(4, "little") if number % 2 else b"")
            connection = http.client.HTTPConnection("127.0.0.1", edge.local, timeout=120)
            try:
                connection.request("POST", "/api/v1/caption", body, {"Content-Type": "image/jpeg"})
                answer = connection.getresponse()
                text = answer.read().decode()
                ends.append("200" if answer.status == 200 else f"{answer.status} {text}")
            except (OSError, http.client.HTTPException) as exc:
                ends.append(repr(exc))
            finally:
                connection.close()

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield ends
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_rolling_restart_of_two_instances_loses_no_request(tmp_path: Path) -> None:
    nginx = tool("nginx")
    with LiveService("--workers", "2") as one, LiveService("--workers", "1") as two:
        addresses = [f"127.0.0.1:{service.port}" for service in (one, two)]
        with (
            running_edge(tmp_path, nginx, fixed_instances(nginx, addresses)) as edge,
            load(edge) as ends,
        ):
            restarts = 0
            while restarts < 2 or len(ends) < ENOUGH:
                service = (one, two)[restarts % 2]
                before = len(ends)
                wait_for(lambda: len(ends) > before + 50, "answers of both instances")  # noqa: B023
                assert service.stop() == 0
                service.__enter__()
                restarts += 1
        print(f"{len(ends)} requests, {restarts} restarts")
        assert Counter(ends) == {"200": len(ends)}


def test_an_instance_that_is_stopped_under_load_leaves_the_others_its_requests(tmp_path: Path) -> None:
    nginx = tool("nginx")
    with LiveService("--workers", "2") as one, LiveService("--workers", "1") as two:
        addresses = [f"127.0.0.1:{service.port}" for service in (one, two)]
        with (
            running_edge(tmp_path, nginx, fixed_instances(nginx, addresses)) as edge,
            load(edge, clients=12) as ends,
        ):
            wait_for(lambda: len(ends) > 100, "answers of both instances")
            assert one.stop() == 0
            before = len(ends)
            wait_for(lambda: len(ends) > before + 100, "answers of the other instance")
        assert Counter(ends) == {"200": len(ends)}
