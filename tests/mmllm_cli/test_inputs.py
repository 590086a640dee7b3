"""Files, directories and standard input become a list of pictures, in order."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from mmllm_cli.image_inputs import InputPicture, expand_inputs, read_input
from mobile_multimodal.errors import FetchError, ImageError, UsageError
from tests.mmllm_cli.conftest import CommandLine, only_one_line


@pytest.fixture
def album(tmp_path: Path, photo: Path) -> Path:
    """Two pictures in the folder, one in a folder below, and things that are none."""
    album = tmp_path / "album"
    (album / "below").mkdir(parents=True)
    for name in ("b.JPG", "a.jpeg", "below/c.jpg", ".hidden.jpg"):
        (album / name).write_bytes(photo.read_bytes())
    (album / "notes.txt").write_text("no picture")
    (album / "folder.jpg").mkdir()
    return album


def names(pictures: list[InputPicture]) -> list[str]:
    return [picture.name for picture in pictures]


def test_a_directory_gives_its_pictures_by_name(album: Path) -> None:
    assert names(expand_inputs([str(album)])) == [str(album / "a.jpeg"), str(album / "b.JPG")]
    below = names(expand_inputs([str(album)], recursive=True))
    assert below == [str(album / "a.jpeg"), str(album / "b.JPG"), str(album / "below" / "c.jpg")]


def test_the_order_is_the_users(album: Path) -> None:
    pictures = expand_inputs(["z.jpg", str(album), "https://example.org/y.jpg", "a.jpg"])
    assert [picture.kind for picture in pictures] == ["file", "file", "file", "url", "file"]
    assert names(pictures)[0] == "z.jpg"
    assert names(pictures)[-1] == "a.jpg"


def test_what_fails_fails_when_it_is_read(tmp_path: Path) -> None:
    [empty, missing, other] = expand_inputs([str(tmp_path), "missing.jpg", "ftp://example.org/a.jpg"])
    with pytest.raises(ImageError, match="holds no pictures"):
        read_input(empty)
    with pytest.raises(ImageError, match="does not exist"):
        read_input(missing)
    with pytest.raises(FetchError, match="ftp"):
        read_input(other)


@pytest.mark.parametrize("arguments", [[], ["-", "a.jpg", "-"]])
def test_arguments_that_can_never_work(arguments: list[str]) -> None:
    with pytest.raises(UsageError):
        expand_inputs(arguments)


def test_a_terminal_is_no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    with pytest.raises(UsageError, match="nothing is piped"):
        expand_inputs(["-"])


def test_standard_input_and_directories_through_a_process(
    mmllm: CommandLine, album: Path, photo: Path
) -> None:
    done = mmllm("caption", "--json", "-", album, stdin=photo.read_bytes())
    assert done.code == 0, done.err
    assert [row["image"] for row in done.rows] == ["-", str(album / "a.jpeg"), str(album / "b.JPG")]
    assert len({row["text"] for row in done.rows}) == 1


def test_empty_standard_input(mmllm: CommandLine) -> None:
    done = mmllm("caption", "-", stdin=b"")
    assert done.code == 3
    assert "- is empty (0 bytes)" in only_one_line(done.error_lines)
