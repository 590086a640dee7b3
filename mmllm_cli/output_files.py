"""Files that a command writes: checked before the work starts, complete or not there at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from mobile_multimodal.errors import MmllmError, UsageError

__all__ = ["check_can_write", "put_in_place", "write_whole"]


def check_can_write(path: Path) -> None:
    """Refuse a path that cannot be written, before minutes of work are spent on it.

    Raises:
        UsageError: the path is a directory, or its directory is missing or may not be written.
    """
    folder = path.parent
    if path.is_dir():
        raise UsageError(f"{path} is a directory", remedy="give the name of a file")
    if not folder.is_dir():
        raise UsageError(f"the directory {folder} does not exist", remedy=f"mkdir -p {folder}")
    if not os.access(folder, os.W_OK):
        raise UsageError(f"the directory {folder} may not be written", remedy="check its permissions")


@contextmanager
def put_in_place(path: Path) -> Iterator[IO[bytes]]:
    """A file to write under a temporary name beside its own; it is renamed when the block ends well.

    Raises:
        MmllmError: the disk is full or the file cannot be written.
    """
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            yield file
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # a temporary file is private, a result is not
        temporary.replace(path)
    except OSError as exc:
        raise MmllmError(
            f"{path} cannot be written: {exc.strerror}", remedy="check the disk and the path"
        ) from exc
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all.

    Raises:
        MmllmError: the disk is full or the file cannot be written.
    """
    with put_in_place(path) as file:
        file.write(data)
