"""A gate, run: every metric measured once, every check judged."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import replace

from benchmarks.environment import environment, usable_cores
from benchmarks.evaluation_report import Progress
from benchmarks.gate import CheckOutcome, Gate, GateCheck, GateResult, Measured, judge
from benchmarks.gate_metrics import METRICS
from benchmarks.gate_subject import GateSubject, NotRequiredError
from mobile_multimodal.errors import BundleError, InconclusiveError, MissingExtraError

__all__ = ["chosen_checks", "run_gate"]


def chosen_checks(gate: Gate, options: Collection[str]) -> Gate:
    """The gate without the checks whose option (``eval-data``, ``service``) is not among these.

    Raises:
        ValueError: no check is left.
    """
    return replace(gate, checks=tuple(check for check in gate.checks if check.only_with in (None, *options)))


def run_gate(gate: Gate, subject: GateSubject, progress: Progress | None = None) -> GateResult:
    """Measure what the checks ask for, in their order, and judge each.

    A metric that needs what is not there is inconclusive; one that the model's file cannot be run for fails.

    Raises:
        DataError: a photo of the evaluation data that cannot be read.
    """
    started = time.monotonic()
    found: dict[str, Measured | CheckOutcome] = {}
    outcomes = []
    cores = len(usable_cores())
    for number, check in enumerate(gate.checks, start=1):
        outcomes.append(_judge_one(check, subject, found, cores))
        if progress is not None:
            progress(number, len(gate.checks))
    return GateResult(
        gate.name, subject.to_json(), tuple(outcomes), time.monotonic() - started, environment()
    )


def _judge_one(
    check: GateCheck, subject: GateSubject, found: dict[str, Measured | CheckOutcome], cores: int
) -> CheckOutcome:
    metric = METRICS[check.metric]
    if check.metric not in found:
        try:
            found[check.metric] = metric.measure(subject)
        except NotRequiredError as exc:
            found[check.metric] = CheckOutcome(check, metric.unit, "skipped", None, str(exc))
        except (InconclusiveError, MissingExtraError) as exc:
            found[check.metric] = CheckOutcome(check, metric.unit, "inconclusive", None, str(exc))
        except BundleError as exc:
            found[check.metric] = CheckOutcome(check, metric.unit, "failed", None, str(exc))
    result = found[check.metric]
    if isinstance(result, CheckOutcome):
        return replace(result, check=check)
    return judge(check, result, metric.unit, cores)
