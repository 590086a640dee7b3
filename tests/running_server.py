"""A web server that answers in a thread of its own while it is entered."""

from __future__ import annotations

import threading
from http.server import ThreadingHTTPServer
from types import TracebackType
from typing import Self


class RunningServer:
    """``closing`` is set when it ends, for answers that wait."""

    def __init__(self, http: ThreadingHTTPServer) -> None:
        http.daemon_threads = True
        self.http = http
        self.closing = threading.Event()
        self.thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()
