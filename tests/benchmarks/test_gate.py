"""Checks, judged: what passes, what fails, and what is neither; and what is no check at all."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from benchmarks.gate import (
    OPERATORS,
    CheckOutcome,
    Gate,
    GateCheck,
    GateResult,
    Measured,
    Status,
    judge,
    shown,
    surely_above,
)

CHECK = GateCheck("cider_d", ">=", 60.0)
P95 = GateCheck("caption_p95_ms", "<", 200.0)
CORES = 2


def status(check: GateCheck, measured: Measured, cores: int = CORES) -> Status:
    outcome = judge(check, measured, "unit", cores)
    assert outcome.reason or outcome.status == "passed", "every other end needs a reason"
    return outcome.status


@pytest.mark.parametrize(
    ("op", "passing"),
    [("<", {9.0}), ("<=", {9.0, 10.0}), ("==", {10.0}), (">=", {10.0, 11.0}), (">", {11.0})],
)
def test_operators(op: str, passing: set[float]) -> None:
    check = GateCheck("cider_d", op, 10.0)
    for value in (9.0, 10.0, 11.0):
        assert status(check, Measured(value)) == ("passed" if value in passing else "failed"), value


@pytest.mark.parametrize("op", OPERATORS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_fails_whatever_is_asked(op: str, value: float) -> None:
    assert status(GateCheck("cider_d", op, 10.0), Measured(value)) == "failed"
    assert status(GateCheck("cider_d", op, 10.0, min_cores=64), Measured(value)) == "failed"
    json.dumps(judge(CHECK, Measured(value), "", CORES).to_json(), allow_nan=False)


@pytest.mark.parametrize("check", [CHECK, P95, GateCheck("health_status", "==", "healthy")])
def test_nothing_measured_is_inconclusive(check: GateCheck) -> None:
    outcome = judge(check, Measured(), "", CORES)
    assert (outcome.status, outcome.measured) == ("inconclusive", None)
    assert judge(check, Measured(note="no page"), "", CORES).reason == "no page"


def test_words_and_yes_or_no_must_be_equal() -> None:
    healthy = GateCheck("health_status", "==", "healthy")
    assert status(healthy, Measured("healthy")) == "passed"
    assert status(healthy, Measured("unhealthy")) == "failed"
    assert status(healthy, Measured("")) == "failed"
    assert status(healthy, Measured(True)) == "failed"
    up = GateCheck("service_ready", "==", True)
    assert status(up, Measured(True)) == "passed"
    assert status(up, Measured(False)) == "failed"
    assert status(up, Measured(1.0)) == "failed"
    assert status(CHECK, Measured(True)) == "failed"


def test_a_limit_for_larger_machines_is_skipped_on_smaller_ones_and_passes_where_it_is_kept() -> None:
    check = GateCheck("captions_per_s", ">", 100.0, min_cores=4)
    assert status(check, Measured(40.0), cores=2) == "skipped"
    assert "required from 4 cores on, here are 2" in judge(check, Measured(40.0), "", 2).reason
    assert status(check, Measured(40.0), cores=4) == "failed"
    assert status(check, Measured(140.0), cores=2) == "passed"
    assert status(check, Measured(), cores=2) == "inconclusive"


def test_percentiles_are_judged_by_their_interval() -> None:
    even = np.linspace(100, 300, 400)  # p95 is 290
    measured = Measured(samples_ms=tuple(even))
    for limit, wanted in ((320.0, "passed"), (290.0, "inconclusive"), (250.0, "failed")):
        assert status(GateCheck("caption_p95_ms", "<", limit), measured) == wanted, limit
    outcome = judge(P95, measured, "ms", CORES)
    assert outcome.measured == pytest.approx(290, abs=1)
    assert "95 % interval" in outcome.reason


def test_too_few_samples_state_no_percentile_but_may_be_too_slow_for_sure() -> None:
    outcome = judge(P95, Measured(samples_ms=(10.0,) * 129), "ms", CORES)
    assert (outcome.status, outcome.measured) == ("inconclusive", None)
    assert "p95 needs 130 samples, there are 129" in outcome.reason
    assert status(P95, Measured(samples_ms=(300.0,) * 4)) == "inconclusive"
    assert status(P95, Measured(samples_ms=(300.0,) * 5)) == "failed"
    assert status(P95, Measured(samples_ms=(10.0,) * 90 + (300.0,) * 10)) == "inconclusive"
    assert status(P95, Measured(samples_ms=(10.0,) * 130)) == "passed"
    assert status(P95, Measured(samples_ms=(*[10.0] * 200, math.nan))) == "failed"


def test_what_is_called_sure_is_rarely_chance() -> None:
    """Of samples whose p95 is just at the limit, so many are beyond it less than once in a million."""
    rng = np.random.default_rng(1)
    for count in (5, 20, 129):
        needed = next(beyond for beyond in range(count + 1) if surely_above(beyond, count, 95))
        drawn = rng.binomial(count, 0.05, 200_000)
        assert (drawn >= needed).mean() <= 1e-4
        assert not surely_above(needed - 1, count, 95)
    assert not surely_above(0, 0, 95)


@pytest.mark.parametrize(
    ("op", "limit", "message"),
    [
        ("=>", 1.0, "unknown operator '=>', one of < <= == >= >"),
        (">", True, "yes can only be compared with =="),
        ("<", "healthy", "'healthy' can only be compared with =="),
        ("<", math.nan, "nan is not a finite number"),
    ],
)
def test_checks_that_are_none_are_refused(op: str, limit: float | bool | str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GateCheck("cider_d", op, limit)


def test_a_gate_needs_checks_and_none_twice() -> None:
    with pytest.raises(ValueError, match="no checks"):
        Gate("mine", ())
    with pytest.raises(ValueError, match="cider_d is checked twice with >="):
        Gate("mine", (CHECK, GateCheck("cider_d", ">=", 70.0)))
    assert len(Gate("mine", (CHECK, GateCheck("cider_d", "<", 200.0))).checks) == 2
    with pytest.raises(ValueError, match="min_cores 0"):
        GateCheck("cider_d", ">=", 1.0, min_cores=0)


@pytest.mark.parametrize(
    ("statuses", "verdict", "code"),
    [
        (("passed", "passed"), "passed", 0),
        (("passed", "skipped"), "passed", 0),
        (("passed", "inconclusive"), "inconclusive", 5),
        (("inconclusive", "failed"), "failed", 4),
        (("passed", "failed", "skipped"), "failed", 4),
        (("skipped", "skipped"), "inconclusive", 5),
        ((), "inconclusive", 5),
    ],
)
def test_the_verdict_and_its_exit_code(statuses: tuple[Status, ...], verdict: str, code: int) -> None:
    outcomes = tuple(CheckOutcome(CHECK, "× 100", status, 61.0, "") for status in statuses)
    result = GateResult("mine", {"model": "tiny"}, outcomes, 1.5)
    assert (result.verdict, result.exit_code) == (verdict, code)
    document = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert (document["verdict"], document["exit_code"]) == (verdict, code)
    assert sum(document["counts"].values()) == len(statuses) == len(document["checks"])


def test_values_as_people_read_them() -> None:
    assert [shown(value) for value in (True, False, "healthy", 0.12345, 0.99998, 20.0, 39475178.0, None)] == [
        *("yes", "no", "'healthy'", "0.1235", "0.99998", "20", "39,475,178", "–"),
    ]
