"""Whether the service may be asked, by whom, and by how many at once; with the packaged model."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from mobile_multimodal import MobileMultiModalLLM
from mobile_multimodal.errors import UsageError
from serving.api_keys import KeyStore
from serving.app import create_app
from tests.serving.app_client import COWS, JPEG, figure, new_picture, opened, settings, until_ready


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with opened(rate_limit_per_minute=100_000) as client:
        until_ready(client)
        yield client


def held_up(monkeypatch: pytest.MonkeyPatch, method: str) -> threading.Event:
    """Let a method of the model wait from now on → what lets it go on."""
    go = threading.Event()
    whole = getattr(MobileMultiModalLLM, method)

    def waiting(self: MobileMultiModalLLM, *given: object) -> object:
        go.wait(60)
        return whole(self, *given)

    monkeypatch.setattr(MobileMultiModalLLM, method, waiting)
    return go


def test_it_says_how_it_is(client: TestClient) -> None:
    assert client.get("/health").json()["status"] == "healthy"
    assert client.get("/ready").json()["checks"] == {"model": "ok", "queue": "ok", "redis": "not configured"}
    status = client.get("/api/v1/admin/status").json()
    assert status["state"] == "ready"
    assert status["settings"]["batch_size"] == 8
    assert "redis_url" not in status["settings"]


def test_monitoring_can_be_switched_off() -> None:
    with opened(monitoring_enabled=False) as client:
        assert client.get("/metrics").status_code == 404
        assert client.get("/health").status_code == 200


def test_it_lives_before_it_is_ready_and_takes_no_pictures_until_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go = held_up(monkeypatch, "get_health_status")
    with opened(request_timeout_s=2.0) as client:
        assert client.get("/health").status_code == 200
        assert client.get("/ready").status_code == 503
        refused = client.post("/api/v1/caption", content=COWS, headers=JPEG)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
        assert figure(client, "mmllm_ready") == 0
        go.set()
        until_ready(client)
        assert figure(client, "mmllm_ready") == 1
        assert client.post("/api/v1/caption", content=COWS, headers=JPEG).status_code == 200


def test_who_comes_while_the_model_loads_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    go = held_up(monkeypatch, "get_health_status")
    with opened(request_timeout_s=120, max_concurrent_requests=2) as client:
        statuses: list[int] = []

        def ask() -> None:
            statuses.append(client.post("/api/v1/caption", content=COWS, headers=JPEG).status_code)

        early = [threading.Thread(target=ask) for _ in range(2)]
        for thread in early:
            thread.start()
        while client.get("/api/v1/admin/status").json()["in_flight"] < 2:
            time.sleep(0.01)
        ask()  # those who wait are counted
        assert statuses == [503]
        go.set()
        for thread in early:
            thread.join()
        assert statuses == [503, 200, 200]


def test_a_model_that_cannot_be_loaded_leaves_it_living_and_not_ready(tmp_path: Path) -> None:
    with opened(model=str(tmp_path / "none")) as client:
        ends = time.monotonic() + 60
        while "none" not in client.get("/ready").text:
            assert time.monotonic() < ends
            time.sleep(0.02)
        assert client.get("/ready").status_code == 503
        assert client.get("/health").status_code == 200


def test_too_many_at_once_are_told_at_once_and_a_late_answer_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with opened(max_concurrent_requests=1, request_timeout_s=2.0) as client:
        until_ready(client)
        go = held_up(monkeypatch, "encode")
        statuses: list[int] = []

        def ask() -> None:
            statuses.append(client.post("/api/v1/caption", content=new_picture(), headers=JPEG).status_code)

        first = threading.Thread(target=ask)
        first.start()
        while figure(client, "mmllm_in_flight_requests") < 1:
            time.sleep(0.01)
        refused = client.post("/api/v1/caption", content=COWS, headers=JPEG)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.json()["title"] == "overloaded"
        first.join()
        assert statuses == [504]
        go.set()
        assert client.post("/api/v1/caption", content=COWS, headers=JPEG).status_code == 200


def test_strict_mode_asks_for_keys_and_roles(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no API keys .*--allow-anonymous"):
        create_app(settings(allow_anonymous=False))
    store = KeyStore(tmp_path / "keys.json")
    (_, reader), (operator, admin) = store.create("app", "reader"), store.create("ops", "admin")
    with opened(allow_anonymous=False, api_keys_file=tmp_path / "keys.json") as client:
        until_ready(client)

        def post(**headers: str) -> int:
            return client.post("/api/v1/caption", content=COWS, headers={**JPEG, **headers}).status_code

        assert post() == 401
        assert post(**{"x-api-key": "mmk_wrong"}) == 401
        assert post(**{"x-api-key": reader}) == 200
        assert post(authorization=f"Bearer {reader}") == 200
        for path in ("/metrics", "/api/v1/admin/status"):
            assert client.get(path).status_code == 401
            assert client.get(path, headers={"x-api-key": reader}).status_code == 403
            assert client.get(path, headers={"x-api-key": admin}).status_code == 200
        assert client.get("/health").status_code == 200
        store.revoke(operator.id)
        assert client.get("/metrics", headers={"x-api-key": admin}).status_code == 401
        (tmp_path / "keys.json").write_text("{")
        assert post(**{"x-api-key": reader}) == 503


def test_wrong_keys_are_counted(tmp_path: Path) -> None:
    KeyStore(tmp_path / "keys.json").create("app", "reader")
    keys = {"allow_anonymous": False, "api_keys_file": tmp_path / "keys.json", "rate_limit_per_minute": 3}
    with opened(**keys) as client:
        codes = [
            client.post("/api/v1/caption", content=COWS, headers={"x-api-key": f"mmk_{n}"}).status_code
            for n in range(6)
        ]
    assert codes == [401, 401, 401, 401, 429, 429]


def test_networks_and_rates_are_held() -> None:
    with opened(allowed_ips=("10.0.0.0/8",)) as client:
        until_ready(client)
        assert client.post("/api/v1/caption", content=COWS, headers=JPEG).status_code == 403
        spoofed = {**JPEG, "x-forwarded-for": "10.1.2.3"}
        assert client.post("/api/v1/caption", content=COWS, headers=spoofed).status_code == 403
    with opened(rate_limit_per_minute=3) as client:
        until_ready(client)
        codes = [client.post("/api/v1/caption", content=COWS, headers=JPEG).status_code for _ in range(4)]
        assert codes == [200, 200, 200, 429]
        assert int(client.post("/api/v1/caption", content=COWS, headers=JPEG).headers["retry-after"]) >= 1
    with opened(service_rate_limit_per_minute=1) as client:
        until_ready(client)
        answers = [client.post("/api/v1/caption", content=COWS, headers=JPEG) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 429]
        assert answers[1].json()["detail"] == "more than 1 requests in a minute of all clients"
