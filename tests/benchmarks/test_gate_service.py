"""A small service on this machine, well and ill, under the load that a gate makes."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from benchmarks.gate import CheckOutcome
from benchmarks.gate_file import default_gate
from benchmarks.gate_metrics import METRICS
from benchmarks.gate_run import chosen_checks, run_gate
from benchmarks.gate_service import LoadPlan, ServiceRun, exposition_errors
from benchmarks.gate_subject import GateSubject
from mobile_multimodal.bundle import find_model
from mobile_multimodal.errors import UsageError
from mobile_multimodal.manifest import Manifest
from tests.benchmarks.small_service import GOOD_METRICS, SmallService, small_service

ARTIFACT = find_model("mmllm-base", "onnxruntime")


@pytest.fixture
def service() -> Iterator[SmallService]:
    with small_service() as running:
        yield running


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
    assert "cret" not in str(caught.value)


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
