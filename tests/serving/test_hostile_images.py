"""Hostile bodies: each is answered, or refused with a problem document, in bounded memory."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from mobile_multimodal.errors import ImageError
from serving.decoding import check_structure
from tests.serving.app_client import COWS, IMAGES, JPEG, opened, until_ready
from tests.serving.hostile_files import (
    absurd_headers,
    bombs,
    damaged,
    good_files,
    jpeg_of_scans,
    other_formats,
    polyglots,
    tiled_tiff,
    wide,
)

# Pillow warns of what it reads, and the service refuses or reads it.
pytestmark = [
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
    pytest.mark.filterwarnings("ignore:Corrupt EXIF data", "ignore:Tag data larger"),
]
PROBLEM = {"type", "title", "status", "detail", "instance", "request_id"}
MIB = 2**20

ANY = {**damaged(cuts=6, flips=12), **absurd_headers()}
REFUSED = {
    **bombs(),
    **other_formats(),
    **{name: file for name, (file, good) in polyglots().items() if not good},
}
TAKEN = {**good_files(), **{name: file for name, (file, good) in polyglots().items() if good}}
FILES = {**ANY, **REFUSED, **TAKEN}


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with opened(rate_limit_per_minute=10**6, max_concurrent_requests=64, request_timeout_s=300) as client:
        until_ready(client)
        yield client
        # Whatever came, it is as well as it was.
        assert client.get("/ready").json()["checks"] == {
            "model": "ok",
            "queue": "ok",
            "redis": "not configured",
        }
        assert client.post("/api/v1/caption", content=COWS, headers=JPEG).status_code == 200
        assert client.get("/api/v1/admin/status").json()["in_flight"] == 0


def post(client: TestClient, path: str, **request: object) -> int:
    """The status of an answer, which is one of the two kinds that there are."""
    answer = client.post(f"/api/v1/{path}", **request)  # type: ignore[arg-type]
    document = answer.json()
    if answer.status_code == 200:
        assert "request_id" in document
        return 200
    assert answer.headers["content-type"] == "application/problem+json"
    assert document.keys() == PROBLEM
    assert document["status"] == answer.status_code
    assert answer.status_code < 500, document
    assert "\n" not in document["detail"]
    assert len(document["detail"]) <= 300
    assert ".py" not in document["detail"]
    return answer.status_code


def test_there_are_200_of_them() -> None:
    assert len(FILES) > 200
    assert len(set(FILES.values())) > 200


@pytest.mark.parametrize("name", ANY)
def test_damaged_pictures_are_answered_or_refused(client: TestClient, name: str) -> None:
    assert post(client, "caption", content=ANY[name], headers=JPEG) in (200, 422)


@pytest.mark.parametrize("name", REFUSED)
def test_bombs_and_what_is_no_picture_are_refused(client: TestClient, name: str) -> None:
    assert post(client, "caption", content=REFUSED[name], headers=JPEG) == 422


@pytest.mark.parametrize("name", TAKEN)
def test_pictures_that_are_something_else_too_are_pictures(client: TestClient, name: str) -> None:
    assert post(client, "caption", content=TAKEN[name], headers={"content-type": "image/png"}) == 200


@pytest.mark.parametrize("name", [*bombs(), "jpeg-cut-at-1", "tiff-no-fields", "jpeg-then-zip"])
def test_text_is_read_from_the_same_files(client: TestClient, name: str) -> None:
    assert post(client, "ocr", files={"file": (f"../{name}\0.jpg", FILES[name], "image/jpeg")}) in (200, 422)


def test_a_batch_of_bombs_names_each(client: TestClient) -> None:
    files = [file for file in bombs().values() if len(file) < 200_000]
    body = {"images": [{"image_base64": base64.b64encode(file).decode()} for file in files]}
    rows = client.post("/api/v1/batch", json=body).json()["results"]
    assert [row["status"] for row in rows] == [422] * len(files)


def test_scans_and_parts_of_real_pictures_are_few_enough() -> None:
    for path in IMAGES.iterdir():
        check_structure(path.read_bytes())
    for file in good_files().values():
        check_structure(file)
    check_structure(jpeg_of_scans(80))
    check_structure(tiled_tiff(65_536))
    # What looks like scans behind the end of a picture is none.
    check_structure(COWS + b"\xff\xda\0\2" * 10_000)
    with pytest.raises(ImageError, match=r"more than 100 scans \(save it again"):
        check_structure(jpeg_of_scans(101))
    with pytest.raises(ImageError, match="more than 65,536 strips or tiles"):
        check_structure(tiled_tiff(65_537))


def resident_mib(name: str) -> int:
    [line] = [row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith(name)]
    return int(line.split()[1]) // 1024


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="/proc does not tell the peak of memory"
)
def test_memory_is_bounded_whatever_comes(client: TestClient) -> None:
    largest, sheer = wide("1"), wide("RGBA")
    post(client, "ocr", content=largest, headers=JPEG)  # what a large picture takes once
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError as exc:
        pytest.skip(f"the peak of memory cannot be set back: {exc}")
    before = resident_mib("VmRSS")

    def ask(number: int) -> int:
        tail = number.to_bytes(4, "little")  # behind the end: another picture to the caches
        if number % 2:
            return post(client, "caption", content=sheer + tail, headers=JPEG)
        images = [{"image_base64": base64.b64encode(largest + tail + bytes([n])).decode()} for n in range(4)]
        return post(client, "batch", json={"task": "ocr", "images": images})

    def send(file: bytes) -> int:
        return post(client, "caption", content=file, headers=JPEG)

    with ThreadPoolExecutor(8) as clients:
        assert set(clients.map(ask, range(6))) == {200}
        assert set(clients.map(send, FILES.values())) == {200, 422}
    peak, after = resident_mib("VmHWM") - before, resident_mib("VmRSS") - before
    print(f"memory: {peak} MiB more at the peak, {after} MiB more in the end")
    # Measured: 1,270 at the peak, most of it what the reader of text keeps for the next large page.
    assert peak < 2000
    assert after < 1500
