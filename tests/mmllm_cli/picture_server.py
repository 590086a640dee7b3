"""A web server on this machine that answers well and badly."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.running_server import RunningServer


class PictureServer(RunningServer):
    """Serves a photo at ``/photo.jpg`` and every kind of bad answer beside it.

    ``asked`` is set when a request for ``/silent`` has arrived.
    """

    def __init__(self, photo: bytes) -> None:
        self.asked = threading.Event()
        self.sent_bytes = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                try:
                    outer.answer(self, photo)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            def log_message(self, *args: Any) -> None:
                """Say nothing."""

        super().__init__(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        self.base = f"http://127.0.0.1:{self.http.server_port}"

    def answer(self, handler: BaseHTTPRequestHandler, photo: bytes) -> None:
        path = handler.path.partition("?")[0]
        if path == "/photo.jpg":
            self.whole(handler, 200, "image/jpeg", photo)
        elif path == "/page":
            self.whole(handler, 200, "text/html", b"<!DOCTYPE html><html><body>a gallery</body></html>")
        elif path == "/page-as-picture":
            self.whole(handler, 200, "image/jpeg", b"\n<html><body>please log in</body></html>")
        elif path == "/words":
            self.whole(handler, 200, "image/png", b"no picture at all")
        elif path == "/empty":
            self.whole(handler, 200, "image/png", b"")
        elif path == "/announces-too-much":
            self.head(handler, 200, ("Content-Type", "image/png"), ("Content-Length", str(10**12)))
        elif path == "/endless":
            self.endless(handler, b"\x89PNG" * 65536, pause_s=0)
        elif path == "/drips":
            self.endless(handler, b"\x89", pause_s=0.05)
        elif path == "/drips-headers":
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not self.closing.is_set():
                handler.wfile.write(b"a")
                time.sleep(0.05)
        elif path == "/silent":
            self.asked.set()
            self.closing.wait(600)
        elif path == "/stops-early":
            self.head(handler, 200, ("Content-Type", "image/jpeg"), ("Content-Length", str(len(photo))))
            handler.wfile.write(photo[:100])
            handler.close_connection = True
        elif path == "/to-photo":
            self.head(handler, 302, ("Location", "/photo.jpg"), ("Content-Length", "0"))
        elif path == "/to-file":
            self.head(handler, 302, ("Location", "file:///etc/hostname"), ("Content-Length", "0"))
        elif path == "/to-ftp":
            self.head(handler, 301, ("Location", "ftp://127.0.0.1/photo.jpg"), ("Content-Length", "0"))
        elif path.startswith("/around/"):
            here = int(path.rpartition("/")[2])
            self.head(handler, 302, ("Location", f"/around/{here + 1}"), ("Content-Length", "0"))
        elif path == "/broken":
            self.whole(handler, 500, "text/plain", b"sorry")
        else:
            self.whole(handler, 404, "text/html", b"<html>not here</html>")

    def head(self, handler: BaseHTTPRequestHandler, code: int, *fields: tuple[str, str]) -> None:
        handler.send_response(code)
        for name, value in fields:
            handler.send_header(name, value)
        handler.end_headers()

    def whole(self, handler: BaseHTTPRequestHandler, code: int, kind: str, body: bytes) -> None:
        self.head(handler, code, ("Content-Type", kind), ("Content-Length", str(len(body))))
        handler.wfile.write(body)

    def endless(self, handler: BaseHTTPRequestHandler, piece: bytes, pause_s: float) -> None:
        self.head(handler, 200, ("Content-Type", "image/png"), ("Transfer-Encoding", "chunked"))
        while not self.closing.is_set():
            handler.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            self.sent_bytes += len(piece)
            time.sleep(pause_s)
