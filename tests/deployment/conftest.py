"""What a running service shows, for the files that ask for it."""

from __future__ import annotations

import re

import pytest

from tests.serving.live_service import LiveService
from tests.serving.test_live import PICTURE


@pytest.fixture(scope="session")
def served_names() -> frozenset[str]:
    """Names of all time series in the ``/metrics`` of a service that has answered, repeated and refused."""
    with LiveService("--workers", "2") as service:
        # Of three requests, one at least comes to a worker that has had one.
        statuses = [service.caption(content)[0] for content in (PICTURE, PICTURE, PICTURE, b"no picture")]
        assert statuses == [200, 200, 200, 422]
        status, page = service.get("/metrics")
    assert status == 200
    return frozenset(re.findall(r"^([a-zA-Z_:][\w:]*)(?:\{[^}]*\})? \S+$", page, re.MULTILINE))
