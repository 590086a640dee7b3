"""Files that a command writes: checked before the work starts, complete or not there at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from mobile_multimodal.errors import MmllmError, UsageError

__all__ = ["check_can_write", "write_whole"]


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


def write_whole(path: Path, data: bytes) -> None:
    """Write a file under a temporary name beside its own, then rename it.

    Raises:
        MmllmError: the disk is full or the file cannot be written.
    """
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            file.write(data)
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
