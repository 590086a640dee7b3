"""Requests that schemathesis makes from the service's own document: none is a fault of a real service."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving.live_service import LiveService

PROGRAM = Path(sys.executable).parent / "schemathesis"


@pytest.mark.skipif(not PROGRAM.exists(), reason="schemathesis is not installed: pip install schemathesis")
def test_no_request_of_its_document_is_a_fault_and_answers_are_as_described(tmp_path: Path) -> None:
    # A document cannot say that a picture must be one, so what it describes may be refused.
    checks = ["--checks", "all", "--exclude-checks", "positive_data_acceptance"]
    with LiveService("--workers", "1") as service:
        url = f"http://127.0.0.1:{service.port}/openapi.json"
        bounds = ["--max-examples", "15", "--seed", "1", "--suppress-health-check", "all", "--no-color"]
        done = subprocess.run(
            [PROGRAM, "run", url, *checks, *bounds], cwd=tmp_path, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stdout[-5000:]
        assert "9 selected / 9 total" in done.stdout
        assert "Traceback" not in service.complaints()
