"""Web servers on this machine's own addresses that count whoever connects, and names that lead to them."""

from __future__ import annotations

import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.running_server import RunningServer

PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8
SECRET = b"what an internal host answers"


class LocalServer(RunningServer):
    """Answers by path, counts every TCP connection, and keeps the Host header of every request in ``hosts``.

    ``certificate`` is a PEM file of a key and a certificate, for https.
    """

    def __init__(self, address: str, *, port: int = 0, certificate: Path | None = None) -> None:
        self.peers: list[Any] = []
        self.probes = 0
        self.hosts: list[str | None] = []
        self.headers: dict[str, str] = {}
        self.redirects: dict[str, str] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.hosts.append(self.headers["Host"])
                outer.headers = dict(self.headers.items())
                try:
                    outer.answer(self)
                except OSError:
                    self.close_connection = True

            def log_message(self, *args: Any) -> None:
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            address_family = socket.AF_INET6 if ":" in address else socket.AF_INET

            def get_request(self) -> tuple[socket.socket, Any]:
                connection, peer = super().get_request()
                outer.peers.append(peer)
                return connection, peer

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that does not trust the certificate goes away."""

        super().__init__(Server((address, port), Handler))
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            # The handshake is the handler's: one that fails must not end the server.
            self.http.socket = context.wrap_socket(
                self.http.socket, server_side=True, do_handshake_on_connect=False
            )
        self.address, self.port = address, self.http.server_port

    @property
    def connections(self) -> int:
        """Connections up to now: one of its own, the last in the queue, shows that none is missing."""
        with socket.create_connection((self.address, self.port)) as probe:
            own = probe.getsockname()
            while own not in self.peers[-100:]:
                time.sleep(0.001)
        self.probes += 1
        return len(self.peers) - self.probes

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        path = handler.path.partition("?")[0]
        if path in self.redirects:
            self.send(handler, 302, b"", Location=self.redirects[path])
        elif path == "/picture":
            self.send(handler, 200, PICTURE, Content_Type="text/html")
        elif path == "/missing":
            self.send(handler, 404, SECRET)
        elif path == "/empty":
            self.send(handler, 200, b"")
        elif path == "/gzip":
            self.send(handler, 200, b"\x1f\x8b" + bytes(100), Content_Encoding="gzip")
        elif path == "/announces":
            self.send(handler, 200, b"", Content_Length=str(10**12))
        elif path == "/endless":
            self.send(handler, 200, b"", Connection="close")
            while not self.closing.is_set():
                handler.wfile.write(bytes(65536))
        elif path == "/drips":
            self.send(handler, 200, b"", Connection="close")
            while not self.closing.is_set():
                handler.wfile.write(b"a")
                time.sleep(0.02)
        elif path == "/drips-headers":
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not self.closing.is_set():
                handler.wfile.write(b"a")
                time.sleep(0.02)
        elif path == "/silent":
            self.closing.wait(600)
        elif path == "/short":
            self.send(handler, 200, b"half", Content_Length="1000")
        elif path == "/no-http":
            handler.wfile.write(b"SSH-2.0-OpenSSH_9.2 " + SECRET + b"\r\n")
        else:
            self.send(handler, 200, SECRET)

    def send(self, handler: BaseHTTPRequestHandler, code: int, body: bytes, **fields: str) -> None:
        handler.send_response(code)
        for name, value in fields.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)


class Names:
    """A resolver in place of the machine's: names that a test gives, numbers as ever, and no network.

    A name with several lists of addresses answers with the next one each time, and stays at the last.
    """

    def __init__(self) -> None:
        self.table: dict[str, list[list[str]]] = {}
        self.asked: list[str] = []
        self._real: Callable[..., Any] = socket.getaddrinfo

    def __setitem__(self, name: str, answers: list[list[str]]) -> None:
        self.table[name] = answers

    def getaddrinfo(
        self,
        host: Any,
        port: Any,
        family: int = 0,
        type: int = 0,  # noqa: A002 - as the socket module calls it
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        self.asked.append(name)
        if name in self.table:
            answers = self.table[name]
            addresses = answers.pop(0) if len(answers) > 1 else answers[0]
            return [
                item
                for address in addresses
                for item in self._real(address, port, family, type, proto, socket.AI_NUMERICHOST)
            ]
        of_this_machine = name in {"localhost", "ip6-localhost", "ip6-loopback", socket.gethostname()}
        return self._real(
            host, port, family, type, proto, flags if of_this_machine else flags | socket.AI_NUMERICHOST
        )


def use_names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """Put a resolver of one's own where the event loop, and with it every library, asks."""
    names = Names()
    monkeypatch.setattr(socket, "getaddrinfo", names.getaddrinfo)
    return names


def write_certificate(folder: Path, name: str) -> Path:
    """A PEM file with a key and a certificate for one name, which vouches for itself."""
    file = folder / f"{name}.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-days", "2"),
            *("-keyout", str(file), "-out", str(folder / f"{name}.crt")),
        ],
        check=True,
        capture_output=True,
    )
    file.write_bytes(file.read_bytes() + (folder / f"{name}.crt").read_bytes())
    return file
