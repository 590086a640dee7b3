"""The nginx of the deployment, on loopback: its own configuration with other ports, folders and instances."""

from __future__ import annotations

import http.client
import json
import os
import re
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.deployment.deployment_files import DEPLOYMENT, free_port, judged, tool

CONFIGURATION = DEPLOYMENT / "nginx" / "nginx.conf"
WITH_RESOLVE = (1, 27, 3)
START_S = 20.0


def version(nginx: str) -> tuple[int, ...]:
    """The version of an nginx."""
    said = subprocess.run([nginx, "-v"], capture_output=True, text=True, check=True).stderr
    [numbers] = re.findall(r"nginx/([\d.]+)", said)
    return tuple(int(number) for number in numbers.split("."))


@dataclass
class Instance:
    """A small service behind nginx: what it was asked, and how it behaves."""

    server: ThreadingHTTPServer
    asked: list[tuple[str, str, dict[str, str], int]] = field(default_factory=list)
    drops: bool = False

    @property
    def address(self) -> str:
        """Host and port."""
        host, port = self.server.server_address[:2]
        return f"{host}:{port}"


@contextmanager
def instance(host: str = "127.0.0.1", port: int = 0) -> Iterator[Instance]:
    """An instance that answers with its address; one that ``drops`` reads a request and hangs up."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            running.asked.append((self.command, self.path, headers, len(body)))
            if running.drops:
                self.close_connection = True
                return
            text = running.address.encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.send_header("X-Frame-Options", "SAMEORIGIN")
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = _answer  # noqa: N815 (the names that http.server calls)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer((host, port), Handler)
    running = Instance(server)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield running
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass(frozen=True)
class Edge:
    """A running nginx: its ports, and the certificate that it shows."""

    https: int
    local: int
    redirect: int
    folder: Path

    def tls(self) -> ssl.SSLContext:
        """A client that trusts this certificate alone."""
        return ssl.create_default_context(cafile=str(self.folder / "ssl" / "cert.pem"))

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers with small letters, and body of an answer over TLS."""
        connection = http.client.HTTPSConnection("localhost", self.https, timeout=30, context=self.tls())
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            names = [name.lower() for name, _ in answer.getheaders()]
            assert len(names) == len(set(names)), names
            return answer.status, {n.lower(): v for n, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def log(self) -> list[dict[str, object]]:
        """Lines of the access log."""
        return [json.loads(line) for line in (self.folder / "access.log").read_text("utf-8").splitlines()]


def make_pair(folder: Path) -> None:
    """A self-signed pair for localhost, by the deployment's script."""
    tool("openssl")
    script = DEPLOYMENT / "nginx" / "make_self_signed.sh"
    judged(["sh", script, "localhost", "127.0.0.1"], env={**os.environ, "SSL_DIR": str(folder)})


def configuration(folder: Path, ports: Sequence[int], changes: dict[str, str]) -> str:
    """The deployment's file, changed as said; what is to be changed must be there."""
    https, local, redirect = ports
    text = CONFIGURATION.read_text("utf-8")
    for old, new in {
        " /tmp/": f" {folder}/",
        "/etc/nginx/ssl/": f"{folder}/ssl/",
        "/dev/stdout": f"{folder}/access.log",
        "/dev/stderr": f"{folder}/error.log",
        "listen 8443": f"listen 127.0.0.1:{https}",
        "listen 8080": f"listen 127.0.0.1:{local}",
        "listen 8081": f"listen 127.0.0.1:{redirect}",
        **changes,
    }.items():
        assert old in text, old
        text = text.replace(old, new)
    # Root's workers would be another user, who may not write into the tests' folder.
    return f"user root;\n{text}" if os.geteuid() == 0 else text


def fixed_instances(nginx: str, addresses: Sequence[str]) -> dict[str, str]:
    """Changes that name instances by address; an old nginx knows neither `resolve` nor `http2 on`."""
    changes = {
        "server mobile-multimodal-api:8080 resolve max_fails=0;": " ".join(
            f"server {address} max_fails=0;" for address in addresses
        )
    }
    if version(nginx) < WITH_RESOLVE:
        changes |= {
            "        resolver 127.0.0.11 valid=2s ipv6=off;\n": "",
            "        resolver_timeout 2s;\n": "",
            "        http2 on;\n": "",
        }
    return changes


@contextmanager
def running_edge(folder: Path, nginx: str, changes: dict[str, str]) -> Iterator[Edge]:
    """nginx with the deployment's configuration, until the end of the block."""
    make_pair(folder / "ssl")
    ports = [free_port() for _ in range(3)]
    file = folder / "nginx.conf"
    file.write_text(configuration(folder, ports, changes), "utf-8")
    (folder / "error.log").touch()
    judged([nginx, "-t", "-c", file, "-p", folder, "-e", folder / "error.log"])
    command = [nginx, "-c", file, "-p", folder, "-e", folder / "error.log", "-g", "daemon off;"]
    process = subprocess.Popen([str(part) for part in command], stderr=subprocess.DEVNULL)
    try:
        edge = Edge(*ports, folder=folder)
        deadline = time.monotonic() + START_S
        while not _is_up(edge):
            assert process.poll() is None, (folder / "error.log").read_text("utf-8")
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield edge
    finally:
        process.terminate()
        process.wait(timeout=30)


def _is_up(edge: Edge) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", edge.local, timeout=5)
    try:
        connection.request("GET", "/nginx-health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
