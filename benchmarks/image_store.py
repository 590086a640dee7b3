"""Pictures and tables by name, out of a folder, the tar files in it, or one tar file."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from mobile_multimodal.errors import DataError, ImageError
from mobile_multimodal.image import LoadedImage, load_image

__all__ = ["ImageStore"]


class ImageStore:
    """Files under one root, read one at a time; a tar file is indexed once and never unpacked.

    ``root`` is a folder (its own files first, then the members of its ``.tar`` files) or one
    ``.tar`` file, in which every name is looked up behind ``prefix``.

    Raises:
        DataError: no such folder or tar file.
    """

    def __init__(self, root: Path, *, prefix: str = "") -> None:
        self.root = root
        self._prefix = prefix
        self._is_tar = root.is_file()
        if not root.exists():
            raise DataError(
                f"{root}: no such folder or tar file", remedy="name the folder of the pictures with --images"
            )
        self._members: Mapping[str, tuple[Path, int, int]] | None = None

    def members(self) -> Mapping[str, tuple[Path, int, int]]:
        """Name → tar file, offset and size of every file in the tar files.

        Raises:
            DataError: a damaged tar file.
        """
        if self._members is None:
            members: dict[str, tuple[Path, int, int]] = {}
            for path in [self.root] if self._is_tar else sorted(self.root.glob("*.tar")):
                try:
                    # "r:" refuses compressed archives, whose offsets would point nowhere.
                    with tarfile.open(path, "r:") as archive:
                        for member in archive:
                            if member.isfile():
                                name = member.name.removeprefix("./")
                                members.setdefault(name, (path, member.offset_data, member.size))
                except (tarfile.TarError, OSError) as exc:
                    raise DataError(f"{path}: not a plain tar file: {exc}") from exc
            self._members = members
        return self._members

    def _path(self, name: str) -> Path | None:
        """Where the name is a file of the folder."""
        relative = PurePosixPath(name)
        if self._is_tar or relative.is_absolute() or ".." in relative.parts:
            return None
        path = self.root / relative
        return path if path.is_file() else None

    def __contains__(self, name: str) -> bool:
        return self._path(name) is not None or self._prefix + name in self.members()

    def read(self, name: str) -> bytes:
        """The bytes of a file.

        Raises:
            DataError: no file of that name, or it cannot be read.
        """
        try:
            path = self._path(name)
            if path is not None:
                return path.read_bytes()
            member = self.members().get(self._prefix + name)
            if member is None:
                raise DataError(f"{name} is neither a file of {self.root} nor in a tar file there")
            archive, offset, size = member
            with archive.open("rb") as stream:
                stream.seek(offset)
                content = stream.read(size)
        except OSError as exc:
            raise DataError(f"{name} in {self.root}: {exc.strerror}") from exc
        if len(content) != size:
            raise DataError(f"{archive}: cut off inside {name}")
        return content

    def load(self, name: str, where: str) -> LoadedImage:
        """A picture; ``where`` is the file and line that ask for it.

        Raises:
            DataError: no such file, or not a picture.
        """
        try:
            return load_image(self.read(name), source=name)
        except ImageError as exc:
            raise DataError(f"{where}: {exc.message}") from exc
