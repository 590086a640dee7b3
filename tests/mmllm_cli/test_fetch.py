"""URLs: what is fetched, and what is refused before it costs much."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from mmllm_cli.fetch import FetchLimits, fetch_image, is_url
from mobile_multimodal.errors import FetchError
from tests.mmllm_cli.picture_server import PictureServer

QUICK = FetchLimits(total_s=1.0, silence_s=0.5)
PATIENT = FetchLimits(total_s=60.0)  # a busy machine may take seconds over a good answer


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def refusal(url: str, limits: FetchLimits = PATIENT) -> str:
    with pytest.raises(FetchError) as caught:
        fetch_image(url, limits)
    assert "\n" not in str(caught.value)
    assert caught.value.remedy
    return str(caught.value)


def test_what_a_url_is() -> None:
    assert is_url("https://example.org/a.jpg")
    assert is_url("file:///etc/passwd")
    assert not is_url("photo.jpg")
    assert not is_url("C:\\photo.jpg")
    assert not is_url("odd:name.jpg")


def test_a_photo_is_fetched_through_a_redirect(server: PictureServer, photo: Path) -> None:
    for path in ("/photo.jpg", "/to-photo", "/photo.jpg?größe=1 2"):
        assert fetch_image(server.base + path) == photo.read_bytes()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/nowhere", "answers 404 Not Found"),
        ("/broken", "answers 500"),
        ("/page", "is an HTML page"),
        ("/page-as-picture", "is an HTML page"),
        ("/announces-too-much", "has more than 64 MiB"),
        ("/endless", "has more than 64 MiB"),
        ("/drips", "is too slow"),
        ("/drips-headers", "is too slow"),
        ("/silent", "is too slow"),
        ("/stops-early", "ended after 100 of"),
        ("/to-file", "redirects to file:, not http or https"),
        ("/to-ftp", "redirects to ftp:, not http or https"),
        ("/around/1", "redirects more than 5 times"),
    ],
)
def test_bad_answers_name_the_url_and_end_soon(server: PictureServer, path: str, words: str) -> None:
    start = time.monotonic()
    message = refusal(server.base + path, QUICK if "slow" in words else PATIENT)
    assert words in message
    assert message.startswith(server.base + path)
    assert time.monotonic() - start < 30


def test_an_endless_body_is_not_read_to_the_end(server: PictureServer) -> None:
    before = server.sent_bytes
    assert "has more than 1 MiB" in refusal(f"{server.base}/endless", FetchLimits(max_bytes=2**20))
    # What the kernel buffers on the way is sent as well.
    assert server.sent_bytes - before < 32 * 2**20


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://example.org/a.jpg", "is a ftp: address"),
        ("file:///etc/passwd", "is a file: address"),
        ("http://127.0.0.1:1/a.jpg", "cannot be reached"),
        ("http://[::1/a.jpg", "is not an address"),
        ("http:///a.jpg", "cannot be"),
        ("http://127.0.0.1:port/a.jpg", "cannot be"),
        ("http://name.invalid/a.jpg", "cannot be reached"),
    ],
)
def test_addresses_that_cannot_work(url: str, words: str) -> None:
    assert words in refusal(url, PATIENT)


def test_a_password_in_an_address_is_not_repeated() -> None:
    message = refusal("https://me:secret@example.org/a.jpg")
    assert "secret" not in message
    assert "example.org" in message
