"""What LiteRT's ``benchmark_model`` prints, and what ``adb devices -l`` prints, as values."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from mobile_multimodal.errors import DataError

__all__ = ["AttachedDevice", "BenchmarkModelResult", "parse_benchmark_model", "parse_devices"]

_NUMBER = r"([-+.\deE]+|nan|inf)"
_TIMINGS = re.compile(
    rf"Inference timings in us: Init: {_NUMBER}, First inference: {_NUMBER}, "
    rf"Warmup \(avg\): {_NUMBER}, Inference \(avg\): {_NUMBER}"
)
_COUNTS = re.compile(r"\bcount=\d+ .*")
_PEAK = re.compile(rf"Overall peak memory footprint \(MB\) via periodic monitoring: {_NUMBER}")
_PREFIX = re.compile(r"^(ERROR|FATAL|error)\b:?\s*")


@dataclass(frozen=True)
class AttachedDevice:
    """A phone that adb sees; ``state`` is ``"device"`` where it can be used. ``model`` may be unknown."""

    serial: str
    state: str
    model: str | None


def parse_devices(text: str) -> tuple[AttachedDevice, ...]:
    """The devices that ``adb devices -l`` lists; what the starting server says between is passed over."""
    found = []
    lines = text.splitlines()
    header = next((i for i, line in enumerate(lines) if line.startswith("List of devices")), len(lines))
    for line in lines[header + 1 :]:
        words = line.split()
        if len(words) < 2 or line.startswith("*"):
            continue
        # The one state of two words; an explanation follows it.
        state = "no permissions" if words[1:3] == ["no", "permissions"] else words[1]
        models = [word.removeprefix("model:") for word in words[2:] if word.startswith("model:")]
        found.append(AttachedDevice(words[0], state, models[0] if models else None))
    return tuple(found)


@dataclass(frozen=True)
class BenchmarkModelResult:
    """What one run of ``benchmark_model`` measured, in milliseconds; ``count`` runs after the warm-up.

    ``spread`` holds what else it printed of these runs: ``min``, ``max``, ``std``, and from newer
    versions ``p5``, ``median``, ``p95``. ``first_ms`` is None without a warm-up, ``peak_mib`` where it
    was not asked for or the system does not tell.
    """

    init_ms: float
    first_ms: float | None
    mean_ms: float
    count: int
    spread: Mapping[str, float]
    peak_mib: float | None


def parse_benchmark_model(text: str, what: str) -> BenchmarkModelResult:
    """Read the output of ``benchmark_model``, of both streams; ``what`` names the graph in errors.

    The format is that of ``BenchmarkLoggingListener`` in LiteRT's tflite/tools/benchmark, whose lines may
    begin with a log's prefix.

    Raises:
        DataError: it failed, with the first error that it printed; or its numbers cannot be right.
    """
    timings = _TIMINGS.search(text)
    if timings is None:
        raise DataError(f"benchmark_model did not measure {what}: {_reason(text)}")
    init, first, warmup, mean = (float(number) for number in timings.groups())
    counted = _COUNTS.findall(text[: timings.start()])
    if not counted:
        raise DataError(f"benchmark_model does not say how often it ran {what}")
    # The last line is of the runs that count; those of the warm-up come before.
    row = {name: number for name, _, number in (word.partition("=") for word in counted[-1].split())}
    count = int(row.pop("count"))
    # Equal times are printed as "curr=1234(all same)".
    values = {name: float(number.partition("(")[0]) for name, number in row.items() if number}
    spread = {name: us / 1000.0 for name, us in values.items() if name not in ("first", "curr", "avg")}
    least, most = values.get("min", mean), values.get("max", mean)
    # Means are printed with six digits, extremes with all.
    sound = count > 0 and 0 < mean < math.inf and least * (1 - 1e-5) <= mean <= most * (1 + 1e-5)
    if not sound or not all(math.isfinite(x) and x >= 0 for x in (init, *values.values())):
        raise DataError(f"benchmark_model printed numbers for {what} that cannot be: {counted[-1].strip()}")
    peak = _PEAK.search(text)
    return BenchmarkModelResult(
        init_ms=init / 1000.0,
        first_ms=first / 1000.0 if warmup > 0 else None,
        mean_ms=mean / 1000.0,
        count=count,
        spread=spread,
        peak_mib=None if peak is None else float(peak[1]),
    )


def _reason(text: str) -> str:
    """The first error in a log, or its last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [_PREFIX.sub("", line) for line in lines if _PREFIX.match(line)]
    return (errors or lines[-1:] or ["it printed nothing"])[0][:300]
