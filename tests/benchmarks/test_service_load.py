"""The load of wrk on a real service: what it counts is what the service counts."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from benchmarks.service_load import load_service, main
from mobile_multimodal.errors import InconclusiveError, UsageError
from tests.serving.live_service import LiveService, free_port

needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")


@needs_wrk
def test_a_service_is_loaded_and_its_own_figures_agree(capsys: pytest.CaptureFixture[str]) -> None:
    with LiveService("--workers", "1") as service:
        url = f"http://127.0.0.1:{service.port}"
        assert (
            main([url, "--seconds", "3", "--connections", "2", "--repeated", "80", "--warm", "300", "--json"])
            == 0
        )
        found = json.loads(capsys.readouterr().out)
        [answered] = re.findall(
            r'^mmllm_requests_total\{status="200",task="caption"\} (\S+)$',
            service.get("/metrics")[1],
            re.MULTILINE,
        )
    # wrk does not count what was under way when its time was up.
    assert found["requests_in_all"] <= float(answered) <= found["requests_in_all"] * 1.5
    assert found["requests_in_all"] > found["warm_requests"] >= 300
    assert 0 < found["p50_ms"] <= found["p95_ms"] <= found["p99_ms"] <= found["longest_ms"]
    assert set(found["errors"].values()) == {0}
    # 80 are asked for. Three seconds are enough requests that a slow machine does not leave this by luck.
    assert 50 < found["hits_percent"] < 99
    assert found["cpu_ms_per_request"] > 0
    assert found["memory_warm_mib"] > 50


@needs_wrk
def test_new_pictures_are_never_known() -> None:
    with LiveService("--workers", "1") as service:
        found = load_service(f"http://127.0.0.1:{service.port}", seconds=1, connections=2, warm_requests=10)
    assert found.hits_percent == 0.0


@needs_wrk
def test_pages_are_read() -> None:
    with LiveService("--workers", "1") as service:
        url = f"http://127.0.0.1:{service.port}"
        found = load_service(url, seconds=15, connections=1, pages=2, warm_requests=1)
        counted = service.get("/metrics")[1]
    assert found.requests > 0
    assert set(found.errors.values()) == {0}
    assert re.search(r'^mmllm_requests_total\{status="200",task="ocr"\}', counted, re.MULTILINE)


@needs_wrk
def test_what_refuses_everything_is_no_measurement(capsys: pytest.CaptureFixture[str]) -> None:
    with LiveService("--workers", "1", RATE_LIMIT_PER_MINUTE="1") as service:
        url = f"http://127.0.0.1:{service.port}"
        service.caption(b"no picture")
        with pytest.raises(InconclusiveError, match=r"answered none of \d+ requests"):
            load_service(url, seconds=1)
    with pytest.raises(InconclusiveError, match=r"wrk failed|nothing answers"):
        load_service(f"http://127.0.0.1:{free_port()}", seconds=1)
    assert main([f"http://127.0.0.1:{free_port()}", "--seconds", "1"]) == 5
    assert capsys.readouterr().err.startswith("service_load: ")


def test_what_is_no_service_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="is not the URL of a service"):
        load_service("ftp://127.0.0.1")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InconclusiveError, match="wrk is not installed"):
        load_service("http://127.0.0.1:1")
