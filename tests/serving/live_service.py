"""``mmllm serve`` as a real process on a free port of this machine."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 180


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


class LiveService:
    """Runs while it is entered; ``environment`` is that of the process beside the system's.

    What it writes to standard output goes to the file ``output``, or nowhere.
    """

    def __init__(
        self, *options: str, port: int | None = None, output: Path | None = None, **environment: str
    ) -> None:
        self.output = output or Path(os.devnull)
        self.port = free_port() if port is None else port
        self.command = [sys.executable, "-m", "mmllm_cli", "serve", "--port", str(self.port), *options]
        defaults = {"ALLOW_ANONYMOUS": "true", "REDIS_URL": "", "RATE_LIMIT_PER_MINUTE": "1000000"}
        self.environment = {**os.environ, **defaults, "OMP_NUM_THREADS": "1", **environment}

    def __enter__(self) -> LiveService:
        # A file and no pipe: a full pipe would stop the service.
        self.errors = tempfile.TemporaryFile()
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                self.command, cwd=ROOT, env=self.environment, stdout=output, stderr=self.errors
            )
        deadline = time.monotonic() + PATIENCE_S
        while not self.is_ready():
            assert self.process.poll() is None, self.complaints()
            assert time.monotonic() < deadline, "the service does not become ready"
            time.sleep(0.1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.stop()
        self.errors.close()

    def complaints(self) -> str:
        """What it wrote to standard error up to now."""
        return os.pread(self.errors.fileno(), 2**20, 0).decode(errors="replace")

    def stop(self) -> int:
        """End it as an operator does → its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def is_ready(self) -> bool:
        try:
            return self.get("/ready")[0] == 200
        except OSError:
            return False

    def get(self, path: str) -> tuple[int, str]:
        """One connection for each request, so that every worker gets some."""
        return self._ask("GET", path, None)

    def caption(self, picture: bytes) -> tuple[int, dict[str, Any]]:
        """The status and the document of one caption."""
        status, text = self._ask("POST", "/api/v1/caption", picture)
        return status, json.loads(text)

    def _ask(self, method: str, path: str, body: bytes | None) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            headers = {} if body is None else {"Content-Type": "image/jpeg"}
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except http.client.HTTPException as exc:
            raise ConnectionError(str(exc)) from exc
        finally:
            connection.close()
