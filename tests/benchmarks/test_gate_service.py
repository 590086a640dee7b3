"""A small service on this machine, well and ill, under the load that a gate makes."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from PIL import Image

from benchmarks.gate import CheckOutcome
from benchmarks.gate_file import default_gate
from benchmarks.gate_metrics import METRICS
from benchmarks.gate_run import chosen_checks, run_gate
from benchmarks.gate_service import CAPTION_PATH, LoadPlan, ServiceRun, exposition_errors
from benchmarks.gate_subject import GateSubject
from mobile_multimodal.bundle import find_model
from mobile_multimodal.errors import UsageError
from mobile_multimodal.manifest import Manifest

ARTIFACT = find_model("mmllm-base", "onnxruntime")
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


@pytest.fixture
def service() -> Iterator[SmallService]:
    with SmallService() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


PLAN = LoadPlan(requests=200, seconds=60.0, clients=4)


def gated(
    service: SmallService, *metrics: str, plan: LoadPlan = PLAN, key: str | None = None
) -> dict[str, CheckOutcome]:
    """How the packaged gate's checks of a service end, those of these metrics where some are named."""
    gate = chosen_checks(default_gate(), ["service"])
    checks = tuple(
        check
        for check in gate.checks
        if check.only_with == "service" and (not metrics or check.metric in metrics)
    )
    run = ServiceRun(f"{service.url}/base/", plan, key)
    subject = GateSubject(ARTIFACT, Manifest.read(ARTIFACT), "onnxruntime", None, service=run)
    result = run_gate(type(gate)(gate.name, checks), subject)
    return {outcome.check.metric: outcome for outcome in result.outcomes}


def failed(outcomes: dict[str, CheckOutcome]) -> set[str]:
    return {metric for metric, outcome in outcomes.items() if outcome.status == "failed"}


UNTIMED = (
    *("service_healthy", "service_ready", "service_metrics_valid"),
    *("service_error_percent", "service_cache_hit_percent"),
)


def test_a_service_that_is_well(service: SmallService) -> None:
    outcomes = gated(service)
    assert set(outcomes) == {metric for metric in METRICS if metric.startswith("service_")}
    assert {outcomes[metric].status for metric in UNTIMED} == {"passed"}
    assert service.asked == sum(service.seen.values()) == PLAN.requests
    assert service.most_busy <= PLAN.clients
    assert outcomes["service_cache_hit_percent"].measured == 100.0 * service.hits / PLAN.requests
    assert outcomes["service_error_percent"].measured == 0.0
    for metric in ("service_p95_ms", "service_requests_per_s"):
        measured = outcomes[metric].measured
        assert isinstance(measured, float)
        assert measured > 0


def test_pictures_are_new_in_every_run(service: SmallService) -> None:
    gated(service, "service_error_percent")
    first = set(service.seen)
    service.seen.clear()
    gated(service, "service_error_percent")
    assert 5 < len(first) < PLAN.requests / 2
    assert not first & set(service.seen)


@pytest.mark.parametrize(
    ("ill", "wanted"),
    [
        ("/base/health", "service_healthy"),
        ("/base/ready", "service_ready"),
        ("/base/metrics", "service_metrics_valid"),
        ("bad metrics", "service_metrics_valid"),
        ("no cache", "service_cache_hit_percent"),
        ("failing", "service_error_percent"),
        ("broken off", "service_error_percent"),
    ],
)
def test_every_illness_fails_its_check(service: SmallService, ill: str, wanted: str) -> None:
    service.ill.add(ill)
    outcomes = gated(service, *UNTIMED)
    assert failed(outcomes) == {wanted}
    if wanted == "service_error_percent":
        assert outcomes[wanted].measured == 100.0 * service.refused / PLAN.requests
        assert service.refused > 0


def test_a_slow_service(service: SmallService) -> None:
    service.ill.add("slow")
    outcomes = gated(service, plan=LoadPlan(requests=12, seconds=60.0, clients=4))
    assert failed(outcomes) >= {"service_p95_ms", "service_requests_per_s"}
    assert "12 of 12 samples are above" in outcomes["service_p95_ms"].reason
    assert service.most_busy > 1


@pytest.mark.parametrize("ill", ["empty", "garbled"])
def test_answers_that_are_no_captions_are_errors(service: SmallService, ill: str) -> None:
    service.ill.add(ill)
    outcomes = gated(service, plan=LoadPlan(requests=8, seconds=60.0, clients=2))
    assert outcomes["service_error_percent"].measured == 100.0
    assert failed(outcomes) >= {"service_error_percent", "service_requests_per_s"}
    assert outcomes["service_p95_ms"].status == "inconclusive"
    assert outcomes["service_cache_hit_percent"].status == "inconclusive"


def test_a_service_that_does_not_tell_of_its_cache(service: SmallService) -> None:
    service.ill.add("silent about its cache")
    outcome = gated(service, "service_cache_hit_percent")["service_cache_hit_percent"]
    assert outcome.status == "inconclusive"
    assert "cached" in outcome.reason


def test_the_load_ends_in_time(service: SmallService) -> None:
    service.ill.add("slow")
    plan = LoadPlan(requests=10_000, seconds=1.0, clients=2)
    outcomes = gated(service, "service_error_percent", plan=plan)
    assert outcomes["service_error_percent"].status == "passed"
    assert 0 < service.asked <= 2 * 5  # a quarter of a second each, and none is begun after a second


def test_nobody_there() -> None:
    with SmallService() as running:
        pass  # its port is free again
    outcomes = gated(running, plan=LoadPlan(requests=6, seconds=10.0, clients=2))
    assert failed(outcomes) >= {"service_healthy", "service_ready", "service_metrics_valid"}
    assert outcomes["service_error_percent"].measured == 100.0
    assert "Refused" in outcomes["service_healthy"].reason
    assert "passed" not in {outcome.status for outcome in outcomes.values()}


def test_the_key_goes_along(service: SmallService) -> None:
    service.key = "secret"
    assert failed(gated(service, "service_healthy", "service_ready")) == {"service_healthy", "service_ready"}
    outcomes = gated(service, "service_healthy", "service_ready", key="secret")
    assert failed(outcomes) == set()
    assert not any("secret" in json.dumps(outcome.to_json()) for outcome in outcomes.values())


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1:8080", "ftp://host/", "http://", "http://host:port", "http://[::1", "http://host/?a=b"],
)
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(UsageError, match="http://127"):
        ServiceRun(url)


def test_keys_that_no_header_can_hold() -> None:
    with pytest.raises(UsageError, match="MMLLM_API_KEY") as caught:
        ServiceRun("http://127.0.0.1:1", api_key="se\ncret")
    assert "cret" not in str(caught.value).replace("secret", "")


@pytest.mark.parametrize(
    ("field", "value"), [("requests", 0), ("clients", 0), ("seconds", -1.0), ("repeated", 1.0)]
)
def test_plans_that_are_none(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=str(value)):
        LoadPlan(**{field: value})  # type: ignore[arg-type]


def test_prometheus_text() -> None:
    assert exposition_errors(GOOD_METRICS) == []
    assert exposition_errors("") == ["no samples"]
    assert exposition_errors("# HELP a b\n") == ["no samples"]
    wrong = ["a{b=c} 1", "a", "a one", "1a 2", 'a{b="c} 1', "# TYPE a thing", "a 1 2 3", 'a{b="c"d="e"} 1']
    for line in wrong:
        assert exposition_errors(f"up 1\n{line}\n") == [f"line 2: {line}"], line
