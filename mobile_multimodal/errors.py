"""Every exception that mmllm raises on purpose, in one tree.

::

    MmllmError                  exit 3   a known failure with one clear line
    ├── UsageError              exit 2   an argument that can never work: empty question, unknown name
    ├── ImageError              exit 3   the picture cannot be used: not an image, truncated, too large
    ├── FetchError              exit 3   a URL did not give a picture: 404, HTML, too large, too slow
    ├── BundleError             exit 3   a bundle or artifact cannot be trusted (corrupt, tampered, too new),
    │                                    run or written
    ├── MissingExtraError       exit 3   an optional package is not installed
    ├── DataError               exit 3   an evaluation or training file cannot be read
    ├── GateFailedError         exit 4   a gate or a parity check failed
    └── InconclusiveError       exit 5   too few samples, or a metric that is not available

Third-party errors are translated once, where they enter, with ``raise … from exc``.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "BundleError",
    "DataError",
    "FetchError",
    "GateFailedError",
    "ImageError",
    "InconclusiveError",
    "MissingExtraError",
    "MmllmError",
    "UsageError",
]


class MmllmError(Exception):
    """A known failure: says what was wrong, with the value, where, and how to repair it.

    ``remedy`` is a command or a short instruction; it is printed behind the message.
    """

    exit_code: ClassVar[int] = 3

    def __init__(self, message: str, *, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} ({self.remedy})" if self.remedy else self.message


class UsageError(MmllmError):
    """An argument that can never work, whatever the files hold."""

    exit_code = 2


class ImageError(MmllmError):
    """A picture that cannot be used."""


class FetchError(MmllmError):
    """A URL that did not give a picture."""


class BundleError(MmllmError):
    """A bundle or an artifact that cannot be trusted, read, run or written."""


class MissingExtraError(MmllmError):
    """An optional package that this command needs is not installed.

    ``extra`` is the extra of mmllm that installs it; ``remedy`` stands in for packages that none does.
    """

    def __init__(self, package: str, extra: str | None = None, *, remedy: str | None = None) -> None:
        super().__init__(
            f"{package} is not installed", remedy=remedy if extra is None else f"pip install 'mmllm[{extra}]'"
        )


class DataError(MmllmError):
    """A data file for evaluation or training that cannot be read."""


class GateFailedError(MmllmError):
    """A quality gate or a parity check failed."""

    exit_code = 4


class InconclusiveError(MmllmError):
    """A verdict that the samples at hand do not allow."""

    exit_code = 5
