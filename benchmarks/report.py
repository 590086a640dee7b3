"""What a benchmark measured: every sample, the artifact, the settings and the machine; to JSON and back."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.latency_stats import MINIMUM_SAMPLES, LatencyStats
from mobile_multimodal.bundle import TARGETS
from mobile_multimodal.errors import DataError, InconclusiveError

__all__ = [
    "FORMATS",
    "LATENCY_METRICS",
    "SCHEMA_VERSION",
    "BenchmarkReport",
    "Measurement",
    "load_report",
    "reports_from_json",
    "reports_to_json",
]

SCHEMA_VERSION = 1
FORMATS = tuple(TARGETS.values())
"""What a model can be stored as: ``onnx``, ``torch``, ``tflite``, ``coreml``."""

LATENCY_METRICS = (
    *("cold_process_ms", "load_ms", "first_inference_ms"),
    *("read_ms", "preprocess_ms", "encode_ms", "prefill_ms", "ttft_ms"),
    *("decode_step_ms", "decode_ms_per_token", "caption_ms"),
    *("detect_ms", "recognize_ms", "ocr_ms", "sustained_ms"),
    *("query_ms", "batch_ms", "latency_ms"),
)
"""The names of all metrics that have samples; docs/benchmark.md says what each is."""


@dataclass(frozen=True)
class Measurement:
    """One metric: samples in milliseconds, in the order in which they were taken, or a single value.

    ``unit`` is ``"ms"`` for samples; ``note`` says what a reader must know of how it was measured.

    Raises:
        ValueError: both or neither, a number that is not finite, or a sample that is no latency.
    """

    name: str
    unit: str
    samples: tuple[float, ...] = ()
    value: float | None = None
    note: str | None = None

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a metric needs a name")
        if bool(self.samples) == (self.value is not None):
            raise ValueError(f"{self.name}: give samples or a value, one of them")
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"{self.name}: {self.value} is not a finite number")
        if self.samples:
            if self.unit != "ms":
                raise ValueError(f"{self.name}: samples are milliseconds, not {self.unit}")
            LatencyStats(self.samples)

    @property
    def stats(self) -> LatencyStats:
        """The samples, to take percentiles of.

        Raises:
            InconclusiveError: this metric is a single value.
        """
        if not self.samples:
            raise InconclusiveError(f"{self.name} is a single value, which has no percentiles")
        return LatencyStats(self.samples)

    @property
    def center(self) -> float:
        """The value, or the median of the samples, however few they are."""
        return statistics.median(self.samples) if self.value is None else self.value

    def to_json(self) -> dict[str, Any]:
        """The JSON form; samples come with the percentiles that they state, for people and other programs."""
        row: dict[str, Any] = {"name": self.name, "unit": self.unit}
        if self.samples:
            row["percentiles"] = _percentiles(self.stats)
            row["samples"] = list(self.samples)
        else:
            row["value"] = self.value
        return row | ({} if self.note is None else {"note": self.note})


def _percentiles(stats: LatencyStats) -> dict[str, Any]:
    """Percentile → value and interval, or ``{"inconclusive": "needs 130"}``."""
    stated: dict[str, Any] = {}
    for q, needed in MINIMUM_SAMPLES.items():
        try:
            estimate = stats.percentile(q)
        except InconclusiveError:
            stated[f"p{q}"] = {"inconclusive": f"needs {needed}"}
        else:
            stated[f"p{q}"] = dataclasses.asdict(estimate)
    return stated


@dataclass(frozen=True)
class BenchmarkReport:
    """What one artifact did under one scenario.

    ``format`` is one of ``FORMATS``, ``bytes`` the size of all its files, ``artifact_sha256`` the hash
    that names them; ``config`` and ``environment`` are plain JSON values. A metric that could not be
    had is left out.

    Raises:
        ValueError: an unknown format, a schema of another version, no bytes, or a metric filed under
            another name than its own.
    """

    artifact_sha256: str
    model: str
    format: str
    recipe: str
    bytes: int
    scenario: str
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    metrics: Mapping[str, Measurement]
    schema_version: int = field(default=SCHEMA_VERSION, kw_only=True)

    def __post_init__(self) -> None:
        if self.schema_version != SCHEMA_VERSION:
            raise ValueError(f"schema_version {self.schema_version} is not {SCHEMA_VERSION}")
        if self.format not in FORMATS:
            raise ValueError(f"format {self.format!r} is not one of {', '.join(FORMATS)}")
        if self.bytes < 1:
            raise ValueError(f"{self.bytes} bytes are no artifact")
        misfiled = [name for name, measurement in self.metrics.items() if name != measurement.name]
        if misfiled:
            raise ValueError(f"{misfiled[0]} holds the metric {self.metrics[misfiled[0]].name}")

    @property
    def title(self) -> str:
        """Model, format and recipe: what tells the reports of one file apart."""
        return f"{self.model} {self.format} {self.recipe}"

    def metric(self, name: str) -> Measurement:
        """The metric of that name.

        Raises:
            InconclusiveError: this report has no such metric; the message lists those it has.
        """
        if name not in self.metrics:
            raise InconclusiveError(
                f"{self.title}: {name} was not measured", remedy=f"there are {', '.join(self.metrics)}"
            )
        return self.metrics[name]

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        row = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        metrics = {name: measurement.to_json() for name, measurement in self.metrics.items()}
        return {"schema_version": row.pop("schema_version"), **row, "metrics": metrics}

    @classmethod
    def from_json(cls, row: object, where: str = "report") -> BenchmarkReport:
        """Read back what :meth:`to_json` wrote; ``where`` names it in errors.

        Raises:
            DataError: an unknown or missing key, or a value of another kind.
        """
        fields = _checked(row, _REPORT_KINDS, (), where)
        metrics = {
            name: _measurement(entry, f"{where}: metric {name}") for name, entry in fields["metrics"].items()
        }
        try:
            return cls(**{**fields, "metrics": metrics})
        except ValueError as exc:
            raise DataError(f"{where}: {exc}") from exc


_REPORT_KINDS: Mapping[str, type | tuple[type, ...]] = {
    "schema_version": int,
    "artifact_sha256": str,
    "model": str,
    "format": str,
    "recipe": str,
    "bytes": int,
    "scenario": str,
    "config": dict,
    "environment": dict,
    "metrics": dict,
}
_METRIC_KINDS: Mapping[str, type | tuple[type, ...]] = {
    "name": str,
    "unit": str,
    "samples": list,
    "value": (int, float),
    "note": str,
    "percentiles": dict,
}


def _checked(
    row: object, kinds: Mapping[str, type | tuple[type, ...]], optional: Sequence[str], where: str
) -> dict[str, Any]:
    """A JSON object's fields, each of its kind, none unknown and only ``optional`` ones missing."""
    if not isinstance(row, dict):
        raise DataError(f"{where} is not a JSON object")
    unknown = row.keys() - kinds.keys()
    if unknown:
        raise DataError(f"{where}: unknown key {min(unknown)!r}", remedy=f"the keys are {', '.join(kinds)}")
    missing = [name for name in kinds if name not in row and name not in optional]
    if missing:
        raise DataError(f"{where}: {missing[0]} is missing")
    for name, value in row.items():
        if isinstance(value, bool) or not isinstance(value, kinds[name]):
            raise DataError(f"{where}: {name} is {type(value).__name__} {str(value)[:40]!r}")
    return dict(row)


def _measurement(row: object, where: str) -> Measurement:
    optional = ("samples", "value", "note", "percentiles")
    fields = _checked(row, _METRIC_KINDS, optional, where)
    fields.pop("percentiles", None)  # follow from the samples
    samples = tuple(fields.pop("samples", ()))
    if not all(isinstance(x, int | float) and not isinstance(x, bool) for x in samples):
        raise DataError(f"{where}: a sample is not a number")
    try:
        return Measurement(**fields, samples=samples)
    except ValueError as exc:
        raise DataError(f"{where}: {exc}") from exc


def reports_to_json(reports: Sequence[BenchmarkReport]) -> dict[str, Any]:
    """The document that files of reports hold, and that ``mmllm benchmark --json`` prints."""
    return {"schema_version": SCHEMA_VERSION, "reports": [report.to_json() for report in reports]}


def reports_from_json(document: object, where: str) -> tuple[BenchmarkReport, ...]:
    """Read back what :func:`reports_to_json` made; ``where`` names it in errors.

    Raises:
        DataError: no such document, of another version, or without reports.
    """
    kinds: Mapping[str, type] = {"schema_version": int, "reports": list, "operators": list}
    fields = _checked(document, kinds, ("operators",), where)  # operators are for people, not for judging
    if fields["schema_version"] != SCHEMA_VERSION:
        raise DataError(f"{where}: schema_version {fields['schema_version']} is not {SCHEMA_VERSION}")
    if not fields["reports"]:
        raise DataError(f"{where}: there are no reports in it")
    return tuple(
        BenchmarkReport.from_json(row, f"{where}: report {number}")
        for number, row in enumerate(fields["reports"], start=1)
    )


def load_report(path: Path) -> tuple[BenchmarkReport, ...]:
    """The reports of a file, one or more.

    Raises:
        DataError: the file cannot be read, is not JSON, or holds something else than reports.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise DataError(f"{path} cannot be read: {exc.strerror}") from exc
    except ValueError as exc:
        raise DataError(
            f"{path} is not a report: {exc}", remedy=f"mmllm benchmark -o {path} writes one"
        ) from exc
    return reports_from_json(document, str(path))
