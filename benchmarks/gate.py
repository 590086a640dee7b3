"""A gate: checks of metrics against limits, and the verdict. What was not measured never passes."""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from benchmarks.latency_stats import LatencyStats, minimum_samples
from mobile_multimodal.errors import GateFailedError, InconclusiveError

__all__ = [
    "OPERATORS",
    "SCHEMA_VERSION",
    "STATUSES",
    "CheckOutcome",
    "Gate",
    "GateCheck",
    "GateResult",
    "Measured",
    "Status",
    "Value",
    "judge",
    "shown",
    "surely_above",
]

SCHEMA_VERSION = 1
Value = float | bool | str
Status = Literal["passed", "failed", "inconclusive", "skipped"]
STATUSES: tuple[Status, ...] = ("passed", "failed", "inconclusive", "skipped")
OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = MappingProxyType(
    {"<": operator.lt, "<=": operator.le, "==": operator.eq, ">=": operator.ge, ">": operator.gt}
)
"""How a measured value is held against a limit; words and yes/no know ``==`` alone."""
SURE = 1e-6
"""The chance that is left to chance where a few samples are enough to fail a percentile."""


@dataclass(frozen=True)
class GateCheck:
    """One metric and what it must be.

    With ``min_cores`` a limit that is not kept counts only on machines of so many cores: on smaller ones
    the check is skipped, which is not passed. ``only_with`` names the option (``eval-data``, ``service``)
    without which the check is left out.

    Raises:
        ValueError: an unknown operator, an operator that the limit's type does not know, a limit that is
            not finite, or less than one core.
    """

    metric: str
    op: str
    limit: Value
    min_cores: int | None = None
    only_with: str | None = None

    def __post_init__(self) -> None:
        if self.op not in OPERATORS:
            raise ValueError(f"unknown operator {self.op!r}, one of {' '.join(OPERATORS)}")
        if isinstance(self.limit, bool | str):
            if self.op != "==":
                raise ValueError(f"the limit {shown(self.limit)} can only be compared with ==")
        elif not math.isfinite(self.limit):
            raise ValueError(f"the limit {self.limit} is not a finite number")
        if self.min_cores is not None and self.min_cores < 1:
            raise ValueError(f"min_cores {self.min_cores} is below 1")


@dataclass(frozen=True)
class Gate:
    """Checks that are judged together.

    ``float_bundle`` and ``torch_bundle`` name the bundles that an artifact is compared with: the floats
    that it was made from, and the very numbers that it holds. None has them looked for.

    Raises:
        ValueError: no checks, or one metric twice with one operator.
    """

    name: str
    checks: tuple[GateCheck, ...]
    float_bundle: str | None = None
    torch_bundle: str | None = None

    def __post_init__(self) -> None:
        if not self.checks:
            raise ValueError("there are no checks, so nothing could ever fail")
        seen: set[tuple[str, str]] = set()
        for check in self.checks:
            if (check.metric, check.op) in seen:
                raise ValueError(f"{check.metric} is checked twice with {check.op}")
            seen.add((check.metric, check.op))


@dataclass(frozen=True)
class Measured:
    """What a measurement gave: a value, or latencies in milliseconds of which ``percentile`` counts.

    Neither means that there was nothing to measure. ``note`` says what a reader should know.
    """

    value: Value | None = None
    samples_ms: tuple[float, ...] = ()
    percentile: int = 95
    note: str = ""


@dataclass(frozen=True)
class CheckOutcome:
    """One check, judged: ``measured`` is None where nothing was; ``reason`` is in words."""

    check: GateCheck
    unit: str
    status: Status
    measured: Value | None
    reason: str

    def to_json(self) -> dict[str, Any]:
        """The JSON form; a measured number that is not finite is written as text."""
        measured = self.measured
        if isinstance(measured, float) and not math.isfinite(measured):
            measured = str(measured)
        row = {name: value for name, value in dataclasses.asdict(self.check).items() if value is not None}
        return {**row, "unit": self.unit, "measured": measured, "status": self.status, "reason": self.reason}


@dataclass(frozen=True)
class GateResult:
    """Every check of a gate, judged, and what it was about."""

    gate: str
    subject: Mapping[str, Any]
    outcomes: tuple[CheckOutcome, ...]
    seconds: float
    environment: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def count(self, status: Status) -> int:
        """How many checks ended so."""
        return sum(outcome.status == status for outcome in self.outcomes)

    @property
    def verdict(self) -> Status:
        """``failed`` if any check is, else ``inconclusive`` if any is or none passed, else ``passed``."""
        if self.count("failed"):
            return "failed"
        return "inconclusive" if self.count("inconclusive") or not self.count("passed") else "passed"

    @property
    def exit_code(self) -> int:
        """0 all passed (or skipped, but not all of them), 4 any failed, 5 none failed, some inconclusive."""
        codes = {"failed": GateFailedError.exit_code, "inconclusive": InconclusiveError.exit_code}
        return codes.get(self.verdict, 0)

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return {
            "schema_version": SCHEMA_VERSION,
            "gate": self.gate,
            "verdict": self.verdict,
            "exit_code": self.exit_code,
            "counts": {status: self.count(status) for status in STATUSES},
            "subject": dict(self.subject),
            "checks": [outcome.to_json() for outcome in self.outcomes],
            "seconds": round(self.seconds, 3),
            "environment": dict(self.environment),
        }


def judge(check: GateCheck, measured: Measured, unit: str, cores: int) -> CheckOutcome:
    """Hold what was measured against the limit, on a machine of so many cores.

    A number that is not finite fails; nothing measured is inconclusive, and so is a percentile of too few
    samples, or whose 95 % interval holds the limit. So many samples beyond the limit that they cannot be
    chance fail it, however few they are.
    """
    if measured.samples_ms:
        return _judge_percentile(check, measured, unit, cores)
    value = measured.value
    if value is None:
        return CheckOutcome(check, unit, "inconclusive", None, measured.note or "nothing was measured")
    if isinstance(value, float) and not math.isfinite(value):
        reason = f"{value} is not a finite number"
        return CheckOutcome(check, unit, "failed", value, _joined(reason, measured.note))
    if type(value) is not type(check.limit) and not (_is_number(value) and _is_number(check.limit)):
        reason = f"{shown(value)} cannot be compared with {shown(check.limit)}"
        return CheckOutcome(check, unit, "failed", value, reason)
    if OPERATORS[check.op](value, check.limit):
        return CheckOutcome(check, unit, "passed", value, measured.note)
    return _missed(check, unit, value, measured.note, cores)


def _judge_percentile(check: GateCheck, measured: Measured, unit: str, cores: int) -> CheckOutcome:
    q, count = measured.percentile, len(measured.samples_ms)
    try:
        stats = LatencyStats(measured.samples_ms)
    except ValueError as exc:
        return CheckOutcome(check, unit, "failed", math.nan, str(exc))
    if isinstance(check.limit, bool | str) or check.op not in ("<", "<="):
        return CheckOutcome(check, unit, "failed", None, f"a percentile needs < or <=, not {check.op}")
    limit = float(check.limit)
    if count < minimum_samples(q):
        beyond = sum(sample > limit for sample in stats.samples_ms)
        if surely_above(beyond, count, q):
            fastest = min(stats.samples_ms)
            note = f"{beyond} of {count} samples are above, the fastest of all is {fastest:.1f} ms"
            return _missed(check, unit, None, _joined(note, measured.note), cores)
        note = f"p{q} needs {minimum_samples(q)} samples, there are {count}"
        return CheckOutcome(check, unit, "inconclusive", None, _joined(note, measured.note))
    estimate = stats.percentile(q)
    compare = OPERATORS[check.op]
    note = _joined(
        f"95 % interval {estimate.low_ms:.1f} to {estimate.high_ms:.1f} ms of {count} samples", measured.note
    )
    if compare(estimate.high_ms, limit):
        return CheckOutcome(check, unit, "passed", estimate.value_ms, note)
    if compare(estimate.low_ms, limit):
        reason = _joined("the interval holds the limit", note)
        return CheckOutcome(check, unit, "inconclusive", estimate.value_ms, reason)
    return _missed(check, unit, estimate.value_ms, note, cores)


def surely_above(beyond: int, count: int, q: int) -> bool:
    """Whether so many samples beyond a limit cannot be chance if the ``q``-th percentile kept it.

    Each sample would be beyond it with a chance of at most 1 - q/100; the binomial tail must be at most
    ``SURE``: 5 of 5 samples for p95.
    """
    share = 1.0 - q / 100.0
    tail = math.fsum(
        math.comb(count, k) * share**k * (1.0 - share) ** (count - k) for k in range(beyond, count + 1)
    )
    return beyond > 0 and tail <= SURE


def _missed(check: GateCheck, unit: str, value: Value | None, note: str, cores: int) -> CheckOutcome:
    wanted = f"{check.op} {shown(check.limit)}"
    if check.min_cores is not None and cores < check.min_cores:
        reason = f"required from {check.min_cores} cores on, here {'is' if cores == 1 else 'are'} {cores}"
        return CheckOutcome(check, unit, "skipped", value, _joined(reason, note))
    found = f"not {wanted}" if value is None else f"{shown(value)} is not {wanted}"
    return CheckOutcome(check, unit, "failed", value, _joined(found, note))


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _joined(reason: str, note: str) -> str:
    return f"{reason}; {note}" if note else reason


def shown(value: Value | None) -> str:
    """A value as people read it: yes, no, a word in quotes, a number of four digits or six, "–" for none."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return repr(value)
    if 0.99 < abs(value) < 1:  # a cosine, of which the last digits count
        return f"{value:.6f}".rstrip("0")
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
