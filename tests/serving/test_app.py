"""The service as a client sees it, with the packaged model: answers, problems, limits, state."""

from __future__ import annotations

import base64
import io
import itertools
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from mobile_multimodal import MobileMultiModalLLM
from mobile_multimodal.errors import UsageError
from serving.api_keys import KeyStore
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


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with opened(rate_limit_per_minute=100_000) as client:
        until_ready(client)
        yield client


@pytest.fixture(scope="module")
def model() -> MobileMultiModalLLM:
    return MobileMultiModalLLM(threads=1)


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


def test_a_picture_can_come_in_three_ways_and_is_captioned_as_in_python(
    client: TestClient, model: MobileMultiModalLLM
) -> None:
    path = "/api/v1/caption"
    answers = [
        client.post(path, content=COWS, headers=JPEG),
        client.post(path, files={"file": ("cows.jpg", COWS)}),
        client.post(path, json={"image_base64": base64.b64encode(COWS).decode()}),
        client.post(path, json={"image_base64": "data:image/jpeg;base64," + base64.b64encode(COWS).decode()}),
    ]
    assert [answer.status_code for answer in answers] == [200] * 4
    assert {answer.json()["text"] for answer in answers} == {model.generate_caption(COWS)}
    first = answers[0].json()
    assert first["task"] == "caption"
    assert 0 < first["confidence"] <= 1
    assert (first["model"], first["recipe"]) == (model.name, model.recipe)
    assert [answer.json()["cached"] for answer in answers[1:]] == [True] * 3


def test_questions_are_answered_and_text_is_read(client: TestClient, model: MobileMultiModalLLM) -> None:
    question = "what animal is this?"
    expected = model.answer_question(COWS, question)
    for answer in (
        client.post("/api/v1/vqa", content=COWS, headers=JPEG, params={"question": question}),
        client.post("/api/v1/vqa", files={"file": COWS}, data={"question": question}),
        client.post(
            "/api/v1/vqa", json={"image_base64": base64.b64encode(COWS).decode(), "question": question}
        ),
    ):
        assert answer.json()["text"] == expected
        assert answer.json()["question"] == question
    sign = (IMAGES / "sign.jpg").read_bytes()
    read = client.post("/api/v1/ocr", files={"file": sign}).json()
    regions = model.extract_text(sign)
    assert [row["text"] for row in read["regions"]] == [region.text for region in regions]
    assert np.allclose([row["box"] for row in read["regions"]], [region.box for region in regions], atol=0.1)


def test_several_tasks_look_at_the_picture_once(client: TestClient) -> None:
    seen = figure(client, "mmllm_stage_seconds_count", stage="encode")
    answer = client.post(
        "/api/v1/run",
        files={"file": new_picture()},
        data={"tasks": "caption,vqa", "question": "what color is it?"},
    ).json()
    assert [row["task"] for row in answer["results"]] == ["caption", "vqa"]
    assert {row["request_id"] for row in answer["results"]} == {answer["request_id"]}
    assert figure(client, "mmllm_stage_seconds_count", stage="encode") == seen + 1


def test_features_are_kept_for_the_next_question(client: TestClient) -> None:
    picture = new_picture()
    client.post("/api/v1/caption", content=picture, headers=JPEG)
    seen = figure(client, "mmllm_stage_seconds_count", stage="encode")
    for question in ("what is this?", "what color is it?"):
        asked = {"question": question}
        assert not client.post("/api/v1/vqa", content=picture, headers=JPEG, params=asked).json()["cached"]
    assert figure(client, "mmllm_stage_seconds_count", stage="encode") == seen


def test_a_batch_answers_in_order_and_names_the_picture_that_is_none(client: TestClient) -> None:
    names = ("cows.jpg", "dog.jpg", "cat.jpg")
    pictures = [base64.b64encode((IMAGES / name).read_bytes()).decode() for name in names]
    body = {"images": [{"image_base64": x} for x in [*pictures, base64.b64encode(b"not a picture").decode()]]}
    rows = client.post("/api/v1/batch", json=body).json()["results"]
    alone = [client.post("/api/v1/caption", json={"image_base64": x}).json()["text"] for x in pictures]
    assert [row["text"] for row in rows[:3]] == alone
    assert rows[3]["status"] == 422
    assert "not an image" in rows[3]["detail"]


@pytest.mark.parametrize(
    ("request_", "status", "detail"),
    [
        ({"content": b"hello", "headers": JPEG}, 422, "not an image"),
        ({"content": COWS[:2000], "headers": JPEG}, 422, "truncated"),
        ({"content": b"", "headers": JPEG}, 422, "is empty"),
        ({"content": COWS, "headers": {"content-type": "text/plain"}}, 415, "'text/plain'"),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 400, "no JSON"),
        ({"json": {}}, 422, "image_url or image_base64"),
        ({"json": {"image_base64": "%%%"}}, 422, "no base64"),
        ({"json": {"image_url": "https://a.test/x", "image_base64": "eA=="}}, 422, "one of the two"),
        ({"json": {"image_bse64": "eA=="}}, 422, "image_bse64"),
        ({"json": {"image_url": "file:///etc/passwd"}}, 422, "https"),
        ({"json": [1]}, 422, "dictionary"),
        ({"files": {"photo": COWS}}, 422, "no file of the name 'file'"),
        ({"files": {"file": COWS}, "data": {"question": "what is it?"}}, 422, "takes no question"),
        ({"content": b"--x", "headers": {"content-type": "multipart/form-data"}}, 400, "multipart"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, str) else "",
)
def test_what_cannot_be_used_is_a_problem_document(
    client: TestClient, request_: dict[str, object], status: int, detail: str
) -> None:
    answer = client.post("/api/v1/caption", **request_)  # type: ignore[arg-type]
    document = answer.json()
    assert (answer.status_code, document["status"]) == (status, status)
    assert detail in document["detail"]
    assert "\n" not in document["detail"]
    assert answer.headers["content-type"] == "application/problem+json"
    assert document["request_id"] == answer.headers["x-request-id"]
    assert document.keys() == {"type", "title", "status", "detail", "instance", "request_id"}


def test_other_routes_and_methods_are_problems_too(client: TestClient) -> None:
    for answer, status in ((client.get("/nothing"), 404), (client.get("/api/v1/caption"), 405)):
        assert (answer.status_code, answer.json()["status"]) == (status, status)
    assert (
        client.post("/api/v1/vqa", content=COWS, headers=JPEG).json()["detail"].startswith("the question is")
    )
    long = client.post("/api/v1/vqa", content=COWS, headers=JPEG, params={"question": "why " * 200})
    assert long.status_code == 422


def test_a_body_is_cut_off_at_its_limit_whether_its_length_is_declared_or_not() -> None:
    with opened(max_body_mb=1) as client:
        until_ready(client)
        large = b"x" * (2**20 + 1)
        assert client.post("/api/v1/caption", content=large, headers=JPEG).status_code == 413
        chunks = (large[i : i + 65536] for i in range(0, len(large), 65536))
        assert client.post("/api/v1/caption", content=chunks, headers=JPEG).status_code == 413


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(client: TestClient) -> None:
    buffer = io.BytesIO()
    Image.new("1", (6000, 5000)).save(buffer, "PNG")
    answer = client.post("/api/v1/caption", content=buffer.getvalue(), headers=JPEG)
    assert answer.status_code == 422
    assert "6,000x5,000 pixels, more than the limit of 25,000,000" in answer.json()["detail"]


def test_every_answer_has_an_id_and_headers_that_keep_browsers_safe(client: TestClient) -> None:
    for path in ("/", "/health", "/nothing"):
        headers = client.get(path, headers={"x-request-id": "abc-1"}).headers
        assert headers["x-request-id"] == "abc-1"
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'self'" in headers["content-security-policy"]
    assert client.get("/health", headers={"x-request-id": "a b\tc"}).headers["x-request-id"] != "a b\tc"


def test_it_says_how_it_is(client: TestClient) -> None:
    assert client.get("/health").json()["status"] == "healthy"
    assert client.get("/ready").json()["checks"] == {"model": "ok", "queue": "ok", "redis": "not configured"}
    status = client.get("/api/v1/admin/status").json()
    assert status["state"] == "ready"
    assert status["settings"]["batch_size"] == 8
    assert "redis_url" not in status["settings"]


def test_figures_move_with_requests(client: TestClient) -> None:
    before = {
        name: figure(client, name, **labels)
        for name, labels in (
            ("mmllm_requests_total", {"task": "caption", "status": "200"}),
            ("mmllm_cache_misses_total", {}),
            ("mmllm_cache_hits_total", {"tier": "memory"}),
        )
    }
    picture = new_picture()
    for _ in range(3):
        client.post("/api/v1/caption", content=picture, headers=JPEG)
    caption = {"task": "caption", "status": "200"}
    assert figure(client, "mmllm_requests_total", **caption) == before["mmllm_requests_total"] + 3
    assert figure(client, "mmllm_cache_misses_total") == before["mmllm_cache_misses_total"] + 1
    assert figure(client, "mmllm_cache_hits_total", tier="memory") == before["mmllm_cache_hits_total"] + 2
    assert figure(client, "mmllm_model_info", name="mmllm-base") == 1
    assert figure(client, "mmllm_in_flight_requests") == 0


def test_monitoring_can_be_switched_off() -> None:
    with opened(monitoring_enabled=False) as client:
        assert client.get("/metrics").status_code == 404
        assert client.get("/health").status_code == 200


def test_it_lives_before_it_is_ready_and_takes_no_pictures_until_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go = threading.Event()
    whole = MobileMultiModalLLM.get_health_status

    def slow(self: MobileMultiModalLLM) -> dict[str, object]:
        go.wait(60)
        return whole(self)

    monkeypatch.setattr(MobileMultiModalLLM, "get_health_status", slow)
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
    go = threading.Event()
    whole = MobileMultiModalLLM.get_health_status

    def slow(self: MobileMultiModalLLM) -> dict[str, object]:
        go.wait(60)
        return whole(self)

    monkeypatch.setattr(MobileMultiModalLLM, "get_health_status", slow)
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
    go = threading.Event()
    encode = MobileMultiModalLLM.encode

    def held(self: MobileMultiModalLLM, *given: object) -> object:
        go.wait(60)
        return encode(self, *given)  # type: ignore[arg-type]

    with opened(max_concurrent_requests=1, request_timeout_s=2.0) as client:
        until_ready(client)
        monkeypatch.setattr(MobileMultiModalLLM, "encode", held)
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


def test_the_api_describes_itself(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    for task in ("caption", "ocr", "vqa", "run", "batch"):
        operation = document["paths"][f"/api/v1/{task}"]["post"]
        assert operation["requestBody"]["content"]["application/json"]["schema"]["properties"]
        assert {"200", "401", "422", "429", "503"} <= operation["responses"].keys()
    assert "$defs" not in json.dumps(document)
    page = client.get("/").text
    assert "page.js" in page
    assert client.get("/page.js").headers["content-type"].startswith("text/javascript")
