"""Odd pictures are read and bad ones refused, through a real process."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.mmllm_cli.conftest import CommandLine, Finished, only_one_line
from tests.mmllm_cli.picture_server import PictureServer

ODD = (
    *("plain", "cmyk", "16-bit", "grey", "palette-alpha", "rotated", "animated"),
    *("one-pixel", "very-long", "very-tall", "dürer's\nhare"),
)
BAD = {
    "words": "is not an image",
    "page": "is an HTML page",
    "zero-bytes": "is empty (0 bytes)",
    "truncated-jpeg": "is truncated",
    "truncated-png": "is truncated",
    "garbage-inside": "is damaged: broken",
    "damaged-tiff": "is damaged",
    "too-many-pixels": "pixels, more than the limit of",
    "no-pictures": "holds no pictures",
    "missing": "does not exist",
}
BAD_URLS = {
    "/nowhere": "answers 404",
    "/page": "is an HTML page",
    "/words": "is not an image",
    "/empty": "is empty (0 bytes)",
    "/announces-too-much": "has more than 64 MiB",
    "/endless": "has more than 64 MiB",
    "/drips": "is too slow",
    "/to-file": "not http or https",
}


@pytest.fixture(scope="module")
def odd_batch(mmllm: CommandLine, odd_pictures: dict[str, Path]) -> Finished:
    # A caption that the model is not sure of would not be shown: here they are to be read, not judged.
    return mmllm("caption", "--json", "--min-confidence", "0", *[odd_pictures[name] for name in ODD])


@pytest.fixture(scope="module")
def bad_batch(mmllm: CommandLine, bad_pictures: dict[str, Path], photo: Path) -> Finished:
    return mmllm("caption", "--json", "--batch-size", "3", *[bad_pictures[name] for name in BAD], photo)


@pytest.fixture(scope="module")
def url_batch(mmllm: CommandLine, server: PictureServer) -> Finished:
    paths = ["/photo.jpg", *BAD_URLS, "/to-photo"]
    return mmllm("caption", "--json", "--url-timeout", "5", *[server.base + path for path in paths])


def test_every_odd_picture_is_captioned(odd_batch: Finished, odd_pictures: dict[str, Path]) -> None:
    assert odd_batch.code == 0, odd_batch.err
    assert odd_batch.err == ""
    assert [row["image"] for row in odd_batch.rows] == [str(odd_pictures[name]) for name in ODD]
    for row in odd_batch.rows:
        assert row["text"].strip()
        assert 0.0 < row["confidence"] <= 1.0


def test_how_an_odd_picture_was_read_is_said(odd_batch: Finished) -> None:
    notes = dict(zip(ODD, (row["notes"] for row in odd_batch.rows), strict=True))
    assert notes["animated"] == ["first frame of an animation"]
    assert notes["16-bit"] == ["16 bits scaled to 8"]
    assert notes["palette-alpha"] == ["laid on white where it is transparent"]
    assert notes["plain"] == notes["cmyk"] == []


def test_the_note_stands_beside_the_caption(mmllm: CommandLine, odd_pictures: dict[str, Path]) -> None:
    done = mmllm("caption", odd_pictures["animated"])
    assert done.code == 0
    assert only_one_line(done.out.splitlines())
    assert "first frame of an animation" in only_one_line(done.error_lines)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_picture_is_a_row_and_a_line(
    bad_batch: Finished, bad_pictures: dict[str, Path], name: str
) -> None:
    row = bad_batch.rows[list(BAD).index(name)]
    assert row["image"] == str(bad_pictures[name])
    assert row["error"]["type"] == "ImageError"
    assert BAD[name] in row["error"]["message"]
    assert row["error"]["remedy"]
    assert "text" not in row
    assert BAD[name] in bad_batch.error_lines[list(BAD).index(name)]
    assert str(bad_pictures[name]) in bad_batch.error_lines[list(BAD).index(name)]


def test_the_others_of_a_batch_finish(bad_batch: Finished, photo: Path) -> None:
    assert bad_batch.code == 3
    assert len(bad_batch.rows) == len(bad_batch.error_lines) + 1 == len(BAD) + 1
    assert bad_batch.rows[-1]["image"] == str(photo)
    assert bad_batch.rows[-1]["text"]


@pytest.mark.parametrize("name", ["too-many-pixels", "truncated-jpeg", "damaged-tiff", "no-pictures"])
def test_alone_a_bad_picture_is_one_line_and_exit_3(
    mmllm: CommandLine, bad_pictures: dict[str, Path], name: str
) -> None:
    done = mmllm("caption", bad_pictures[name])
    assert done.code == 3
    assert done.out == ""
    line = only_one_line(done.error_lines)
    assert line.startswith("mmllm: ")
    assert BAD[name] in line


def test_a_failure_among_people_is_one_line(
    mmllm: CommandLine, bad_pictures: dict[str, Path], photo: Path
) -> None:
    done = mmllm("caption", photo, bad_pictures["missing"], photo)
    assert done.code == 3
    assert len(done.out.splitlines()) == 2
    assert all(line.startswith(f"{photo}: ") for line in done.out.splitlines())
    assert "does not exist" in only_one_line(done.error_lines)


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are other things on Windows")
def test_an_unreadable_file(mmllm: CommandLine, tmp_path: Path, photo: Path) -> None:
    if os.geteuid() == 0:
        # Nothing is locked for root; this file of the kernel opens and then cannot be read.
        unreadable = Path("/proc/self/mem")
        if not unreadable.exists():
            pytest.skip("root can read every file here")
    else:
        unreadable = tmp_path / "locked.jpg"
        unreadable.write_bytes(photo.read_bytes())
        unreadable.chmod(0)
    done = mmllm("caption", unreadable)
    assert done.code == 3
    assert "read" in only_one_line(done.error_lines)


def test_good_urls_are_captioned(url_batch: Finished) -> None:
    assert url_batch.rows[0]["text"] == url_batch.rows[-1]["text"]
    assert url_batch.rows[0]["text"]


@pytest.mark.parametrize("path", BAD_URLS)
def test_a_bad_url_is_a_row_and_a_line(url_batch: Finished, server: PictureServer, path: str) -> None:
    assert url_batch.code == 3
    place = list(BAD_URLS).index(path)
    row = url_batch.rows[place + 1]
    assert row["image"] == server.base + path
    assert row["error"]["type"] in ("FetchError", "ImageError")
    assert BAD_URLS[path] in row["error"]["message"]
    assert server.base + path in url_batch.error_lines[place]
