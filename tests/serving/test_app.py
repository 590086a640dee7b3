"""The service as a client sees it, with the packaged model: answers, problems, figures."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from mobile_multimodal import MobileMultiModalLLM
from tests.serving.app_client import COWS, IMAGES, JPEG, figure, new_picture, opened, until_ready


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with opened(rate_limit_per_minute=100_000) as client:
        until_ready(client)
        yield client


@pytest.fixture(scope="module")
def model() -> MobileMultiModalLLM:
    return MobileMultiModalLLM(threads=1)


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
    unasked = client.post("/api/v1/vqa", content=COWS, headers=JPEG).json()
    assert unasked["detail"] == "the question is empty"  # and nothing of a command line
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
