"""Logs as JSON, a line an event; neither pictures nor keys are ever written."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, TextIO

import structlog

from mobile_multimodal.errors import UsageError

__all__ = ["SafeStream", "configure_logs"]

SECRETS = ("key", "authorization", "password", "token", "secret", "cookie")
REMOVED = "[removed]"


class SafeStream:
    """A stream whose failures cost log lines and nothing else: a full disk must not stop the service."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.lost = 0

    def write(self, text: str) -> int:
        """Write, or count what was lost."""
        try:
            return self._stream.write(text)
        except (OSError, ValueError):
            self.lost += 1
            return len(text)

    def flush(self) -> None:
        """Flush, or give up."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self.lost += 1


def configure_logs(level: str, file: Path | None = None) -> SafeStream:
    """Send logs of this level and above to standard output, or to the end of a file.

    Raises:
        UsageError: the file cannot be opened.
    """
    try:
        stream = SafeStream(sys.stdout if file is None else file.open("a", encoding="utf-8", buffering=1))
    except OSError as exc:
        raise UsageError(
            f"LOG_FILE={str(file)!r}: {exc.strerror}", remedy="name a file in a directory that can be written"
        ) from exc
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _without_secrets,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=structlog.WriteLoggerFactory(file=stream),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,
    )
    return stream


def _without_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name in event:
        if name != "key_id" and any(secret in name.lower() for secret in SECRETS):
            event[name] = REMOVED
    return event
