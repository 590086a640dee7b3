"""The pictures that a command is given: files, directories, URLs and standard input, in order."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mmllm_cli.fetch import FetchLimits, fetch_image, is_url
from mobile_multimodal.errors import ImageError, UsageError
from mobile_multimodal.image import IMAGE_SUFFIXES, MAX_FILE_BYTES, LoadedImage, load_image

__all__ = ["InputPicture", "expand_inputs", "read_input"]


@dataclass(frozen=True)
class InputPicture:
    """One picture to come: ``name`` is what the user gave or what its directory holds."""

    name: str
    kind: Literal["file", "url", "stdin", "empty directory"]


def expand_inputs(arguments: Sequence[str], *, recursive: bool = False) -> list[InputPicture]:
    """List the pictures behind the arguments, in order; a directory gives its pictures by name.

    Nothing is read: a missing file and a directory without pictures stay in the list and fail in
    :func:`read_input`, so that the others of a batch go on.

    Raises:
        UsageError: no argument, ``-`` twice, or ``-`` where nothing is piped in.
    """
    if not arguments:
        raise UsageError("no picture is given", remedy="give a file, a directory, a URL or -")
    if arguments.count("-") > 1:
        raise UsageError("standard input (-) is given twice", remedy="give - once")
    pictures: list[InputPicture] = []
    for argument in arguments:
        if argument == "-":
            if sys.stdin is None or sys.stdin.isatty():
                raise UsageError(
                    "nothing is piped into standard input (-)", remedy="mmllm caption - < photo.jpg"
                )
            pictures.append(InputPicture("-", "stdin"))
        elif is_url(argument):
            pictures.append(InputPicture(argument, "url"))
        elif os.path.isdir(argument):
            pictures += _pictures_in(argument, recursive)
        else:
            pictures.append(InputPicture(argument, "file"))
    return pictures


def read_input(picture: InputPicture, limits: FetchLimits | None = None) -> LoadedImage:
    """Read one picture of :func:`expand_inputs`.

    Raises:
        ImageError: the picture cannot be read, or its directory holds none.
        FetchError: its URL does not give a picture.
    """
    if picture.kind == "empty directory":
        if not os.access(picture.name, os.R_OK | os.X_OK):
            raise ImageError(f"the directory {picture.name} may not be read", remedy="check its permissions")
        raise ImageError(
            f"the directory {picture.name} holds no pictures",
            remedy=f"give a directory with {', '.join(IMAGE_SUFFIXES[:3])}… files, or add --recursive",
        )
    if picture.kind == "stdin":
        data = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
        with _libraries_hushed():
            return load_image(data, source="-")
    if picture.kind == "url":
        data = fetch_image(picture.name, limits)
        with _libraries_hushed():
            return load_image(data, source=picture.name)
    with _libraries_hushed():
        return load_image(picture.name)


def _pictures_in(directory: str, recursive: bool) -> list[InputPicture]:
    found = Path(directory).rglob("*") if recursive else Path(directory).glob("*")
    paths = sorted(
        str(path)
        for path in (found if os.access(directory, os.R_OK | os.X_OK) else ())
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and os.path.isfile(path)
    )
    if not paths:
        return [InputPicture(directory, "empty directory")]
    return [InputPicture(path, "file") for path in paths]


@contextmanager
def _libraries_hushed() -> Iterator[None]:
    """Keep libtiff and libjpeg, which write to file descriptor 2, from adding lines to our one."""
    try:
        kept = os.dup(2)
    except OSError:  # standard error is closed
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
