"""Measures of a running service: what ``--service URL`` adds. One load serves all of them."""

from __future__ import annotations

from benchmarks.gate import Measured
from benchmarks.gate_service import Load, ServiceRun, exposition_errors
from benchmarks.gate_subject import GateSubject
from mobile_multimodal.errors import InconclusiveError

__all__ = [
    "measure_cache_hits",
    "measure_health_page",
    "measure_metrics_page",
    "measure_ready_page",
    "measure_request_errors",
    "measure_request_latency",
    "measure_request_rate",
]


def _service(subject: GateSubject) -> ServiceRun:
    if subject.service is None:
        raise InconclusiveError("there is no service", remedy="give --service URL")
    return subject.service


def _problems(load: Load) -> str:
    named = ", ".join(f"{count} × {problem}" for problem, count in load.problems.most_common(3))
    return f"{load.asked} requests" + (f", {named}" if named else "")


def measure_request_latency(subject: GateSubject) -> Measured:
    """Milliseconds of every caption that the service gave, as its clients saw them.

    Raises:
        InconclusiveError: no service.
    """
    load = _service(subject).load
    return Measured(samples_ms=load.latencies_ms, percentile=95, note=_problems(load))


def measure_request_rate(subject: GateSubject) -> Measured:
    """Captions a second that all clients together were given.

    Raises:
        InconclusiveError: no service.
    """
    service = _service(subject)
    load = service.load
    note = f"{_problems(load)} in {load.seconds:.1f} s, {service.plan.clients} clients"
    return Measured(len(load.latencies_ms) / load.seconds, note=note)


def measure_request_errors(subject: GateSubject) -> Measured:
    """Requests in per cent that were not answered with a caption.

    Raises:
        InconclusiveError: no service.
    """
    load = _service(subject).load
    if not load.asked:
        return Measured(note="no request was made")
    return Measured(100.0 * load.problems.total() / load.asked, note=_problems(load))


def measure_cache_hits(subject: GateSubject) -> Measured:
    """Captions in per cent that say they came from the cache; nine of ten pictures are repeated ones.

    Raises:
        InconclusiveError: no service, or answers that do not say.
    """
    load = _service(subject).load
    if load.told < len(load.latencies_ms) or not load.told:
        silent = len(load.latencies_ms) - load.told
        return Measured(note=f'{silent} of {len(load.latencies_ms)} answers have no "cached": true or false')
    return Measured(100.0 * load.cached / load.told, note=f"{load.cached} of {load.told} captions")


def measure_health_page(subject: GateSubject) -> Measured:
    """Whether ``/health`` answers with status 200.

    Raises:
        InconclusiveError: no service.
    """
    return _is_up(subject, "/health")


def measure_ready_page(subject: GateSubject) -> Measured:
    """Whether ``/ready`` answers with status 200.

    Raises:
        InconclusiveError: no service.
    """
    return _is_up(subject, "/ready")


def _is_up(subject: GateSubject, path: str) -> Measured:
    page = _service(subject).page(path)
    note = f"status {page.status}" if page.status else page.text
    return Measured(page.status == 200, note=note)


def measure_metrics_page(subject: GateSubject) -> Measured:
    """Whether ``/metrics`` answers with status 200 and Prometheus' text format.

    Raises:
        InconclusiveError: no service.
    """
    page = _service(subject).page("/metrics")
    if page.status != 200:
        return Measured(False, note=f"status {page.status}" if page.status else page.text)
    errors = exposition_errors(page.text)
    note = "; ".join(errors[:2]) if errors else f"{len(page.text):,} characters"
    return Measured(not errors, note=note)
