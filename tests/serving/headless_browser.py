"""Chromium without a window, driven by chromedriver over WebDriver, which is JSON over HTTP."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from tests.serving.live_service import free_port

needs_browser = pytest.mark.skipif(
    shutil.which("chromium") is None or shutil.which("chromedriver") is None,
    reason="chromium and chromedriver are not installed",
)
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""The key under which the protocol names an element."""
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)


class HeadlessBrowser:
    """One window, while it is entered."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()

    def __enter__(self) -> HeadlessBrowser:
        self.process = subprocess.Popen(
            ["chromedriver", f"--port={self.port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                if self._ask("GET", "/status")["ready"]:
                    break
            except OSError:
                assert time.monotonic() < deadline, "chromedriver does not answer"
                time.sleep(0.1)
        options = {"binary": shutil.which("chromium"), "args": [*QUIET, f"--user-data-dir={self.folder}"]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        opened = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.session = f"/session/{opened['sessionId']}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._ask("DELETE", self.session)
        finally:
            self.process.terminate()
            self.process.wait()

    def open(self, address: str) -> None:
        self._ask("POST", f"{self.session}/url", {"url": address})

    def type(self, place: str, keys: str) -> None:
        """Type into the element of this id; a file is chosen by typing its path."""
        found = {"using": "css selector", "value": f"#{place}"}
        element = self._ask("POST", f"{self.session}/element", found)[ELEMENT]
        self._ask("POST", f"{self.session}/element/{element}/value", {"text": keys})

    def run(self, script: str) -> Any:
        """What a script returns."""
        return self._ask("POST", f"{self.session}/execute/sync", {"script": script, "args": []})

    def text(self, place: str) -> str:
        """What stands in the element of this id."""
        found: str = self.run(f"return document.getElementById('{place}').textContent;")
        return found

    def console(self) -> list[str]:
        """What the browser has complained of."""
        return [row["message"] for row in self._ask("POST", f"{self.session}/se/log", {"type": "browser"})]

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            value = json.loads(answer.read())["value"]
            assert answer.status == 200, value
            return value
        finally:
            connection.close()
