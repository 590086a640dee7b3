"""HTTP connections that end: uvicorn waits for heads, and for the bodies that were refused, for ever."""

from __future__ import annotations

import asyncio
import functools

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.settings import load_settings

__all__ = ["TimelyProtocol"]

LAST_S = 1.0
"""How long a connection without a request is kept when the service stops."""
MOST_HEAD_BYTES = 65_536


class TimelyProtocol(HttpToolsProtocol):
    """uvicorn's own protocol, with a time in which each request has to arrive: REQUEST_TIMEOUT_S.

    It counts from the connection, or from the first byte, to the end of the headers; the body has its
    time in the application. Where the answer was sent before the whole request came, it counts again.
    A head of more than 64 KiB is refused.

    When the service stops, a new connection may still bring its one request, if it does so within a second.
    """

    _deadline: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _is_head = True
    _is_arriving = _is_last = _was_asked = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect(_patience_s())

    def connection_lost(self, exc: Exception | None) -> None:
        self._relax()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._head_bytes = self._head_bytes + len(data) if self._is_head else 0
        if self._head_bytes > MOST_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The head of the request is too large.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_arriving = self._is_head = True
        self._expect(_patience_s())

    def on_headers_complete(self) -> None:
        self._relax()
        super().on_headers_complete()
        self._is_head, self._was_asked = False, True
        if self._is_last:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        self._is_arriving = False
        self._relax()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._is_arriving:
            self._expect(_patience_s())

    def shutdown(self) -> None:
        if self._was_asked:
            super().shutdown()
        else:
            self._is_last = True
            self._expect(min(LAST_S, _patience_s()))

    def _expect(self, seconds: float) -> None:
        self._relax()
        self._deadline = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def _relax(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


@functools.cache
def _patience_s() -> float:
    return load_settings().request_timeout_s
