"""A small caption service on this machine, well or ill as a test wants it."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image

from benchmarks.gate_service import CAPTION_PATH

GOOD_METRICS = (
    "# HELP requests_total Requests.\n# TYPE requests_total counter\n"
    'requests_total{task="caption",note="a \\"b\\" \\\\ c, d"} 12\nrequests_total 3 1700000000000\n'
    "# a remark\nqueue_depth 0.5e1\nup +Inf\nnothing NaN\n"
)


class SmallService(ThreadingHTTPServer):
    """Captions any picture in base64; ``ill`` says what is wrong with it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.ill: set[str] = set()
        self.key: str | None = None
        self.lock = threading.Lock()
        self.seen: Counter[bytes] = Counter()
        self.asked = self.hits = self.busy = self.most_busy = 0
        self.refused = 0

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is none of the test's business."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are written apart, and would wait for each other
    server: SmallService

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
        """Nothing."""

    def answer(self, status: int, data: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        pages = {"/base/health": b"{}", "/base/ready": b"{}", "/base/metrics": GOOD_METRICS.encode()}
        if self.path in self.server.ill:
            self.answer(503, b"not now")
        elif "bad metrics" in self.server.ill and self.path.endswith("/metrics"):
            self.answer(200, b"requests_total 1\nrequests total{ 3\n")
        elif self.server.key != self.headers.get("X-API-Key"):
            self.answer(401, b"{}")
        else:
            self.answer(200 if self.path in pages else 404, pages.get(self.path, b""))

    def do_POST(self) -> None:
        server, ill = self.server, self.server.ill
        body = self.rfile.read(int(self.headers["Content-Length"]))
        picture = base64.b64decode(json.loads(body)["image_base64"])
        with server.lock:
            server.asked += 1
            server.busy += 1
            server.most_busy = max(server.most_busy, server.busy)
            number, hit = server.asked, bool(server.seen[picture]) and "no cache" not in ill
            server.seen[picture] += 1
            server.hits += hit
        with Image.open(io.BytesIO(picture)) as image:
            assert image.size == (224, 224)
        if "slow" in ill:
            time.sleep(0.25)
        row: dict[str, Any] = {"task": "caption", "text": "A cat.", "cached": hit}
        if "silent about its cache" in ill:
            del row["cached"]
        with server.lock:
            server.busy -= 1
        if self.path != f"/base{CAPTION_PATH}":
            self.answer(404, b"{}")
        elif "failing" in ill and number % 5 == 0:
            server.refused += 1
            self.answer(500, b"{}")
        elif "broken off" in ill and number % 7 == 0:
            server.refused += 1
            self.close_connection = True
        elif "empty" in ill:
            self.answer(200, b'{"text": " "}')
        elif "garbled" in ill:
            self.answer(200, b"<html>")
        else:
            self.answer(200, json.dumps(row).encode())


@contextmanager
def small_service() -> Iterator[SmallService]:
    """The service, running."""
    with SmallService() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()
