"""Reports come back from JSON as they were, and nothing odd gets in."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest

from benchmarks.report import BenchmarkReport, Measurement, load_report, reports_to_json
from mobile_multimodal.errors import DataError, InconclusiveError

SAMPLES = tuple(20.0 + (7 * number % 13) / 3 for number in range(140))


def some_report(**changes: Any) -> BenchmarkReport:
    fields: dict[str, Any] = {
        "artifact_sha256": "ab" * 32,
        "model": "mmllm-base",
        "format": "onnx",
        "recipe": "weight_only_wi8_afp32",
        "bytes": 31_000_000,
        "scenario": "single-stream",
        "config": {"num_runs": 140, "threads": None},
        "environment": {"cpu": "a processor", "cores": 2, "vector_units": ["avx2"]},
        "metrics": {
            "caption_ms": Measurement("caption_ms", "ms", samples=SAMPLES),
            "peak_rss_mib": Measurement("peak_rss_mib", "MiB", value=128.25, note="of a process of its own"),
        },
    }
    return BenchmarkReport(**{**fields, **changes})


def written(path: Path, document: object) -> Path:
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def test_a_report_comes_back_equal(tmp_path: Path) -> None:
    reports = (some_report(), some_report(format="tflite", metrics={}))
    path = written(tmp_path / "report.json", reports_to_json(reports))
    assert load_report(path) == reports
    assert json.loads(path.read_text()) == reports_to_json(load_report(path))


def test_json_holds_every_sample_and_only_what_they_state() -> None:
    row = some_report().to_json()["metrics"]["caption_ms"]
    assert tuple(row["samples"]) == SAMPLES
    assert set(row["percentiles"]["p95"]) == {"value_ms", "low_ms", "high_ms"}
    assert row["percentiles"]["p99"] == {"inconclusive": "needs 662"}


@pytest.mark.parametrize(
    ("place", "key", "value", "said"),
    [
        ((), "extra", 1, "unknown key 'extra'"),
        ((), "schema_version", 2, "schema_version 2 is not 1"),
        ((), "reports", [], "there are no reports in it"),
        (("reports", 0), "colour", "red", "report 1: unknown key 'colour'"),
        (("reports", 0), "format", "gguf", "format 'gguf' is not one of onnx, torch, tflite, coreml"),
        (("reports", 0), "bytes", True, "bytes is bool"),
        (("reports", 0), "bytes", 0, "0 bytes"),
        (("reports", 0, "metrics", "caption_ms"), "sampels", [], "metric caption_ms: unknown key"),
        (("reports", 0, "metrics", "caption_ms"), "samples", [1.0, math.nan], "nan is not a latency"),
        (("reports", 0, "metrics", "caption_ms"), "samples", [1.0, "2"], "a sample is not a number"),
        (("reports", 0, "metrics", "caption_ms"), "samples", [], "give samples or a value"),
        (("reports", 0, "metrics", "caption_ms"), "unit", "s", "samples are milliseconds"),
        (("reports", 0, "metrics", "caption_ms"), "name", "ocr_ms", "caption_ms holds the metric ocr_ms"),
        (("reports", 0, "metrics", "peak_rss_mib"), "value", math.nan, "nan is not a finite number"),
    ],
)
def test_what_is_not_a_report_is_refused(
    tmp_path: Path, place: tuple[Any, ...], key: str, value: Any, said: str
) -> None:
    document = copy.deepcopy(reports_to_json([some_report()]))
    part: Any = document
    for step in place:
        part = part[step]
    part[key] = value
    path = written(tmp_path / "report.json", document)
    with pytest.raises(DataError, match=said) as caught:
        load_report(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("key", ["config", "artifact_sha256", "metrics"])
def test_a_missing_key_is_named(tmp_path: Path, key: str) -> None:
    document = reports_to_json([some_report()])
    del document["reports"][0][key]
    with pytest.raises(DataError, match=f"report 1: {key} is missing"):
        load_report(written(tmp_path / "report.json", document))


def test_files_that_hold_something_else(tmp_path: Path) -> None:
    (tmp_path / "text.json").write_text("not JSON")
    with pytest.raises(DataError, match="is not a report"):
        load_report(tmp_path / "text.json")
    with pytest.raises(DataError, match="cannot be read"):
        load_report(tmp_path / "missing.json")
    with pytest.raises(DataError, match="is not a JSON object"):
        load_report(written(tmp_path / "list.json", []))


def test_a_metric_that_was_not_measured_is_no_number() -> None:
    report = some_report()
    assert report.metric("caption_ms").stats.count == 140
    assert report.metric("peak_rss_mib").center == 128.25
    with pytest.raises(InconclusiveError, match=r"ocr_ms was not measured \(there are caption_ms, peak"):
        report.metric("ocr_ms")
    with pytest.raises(InconclusiveError, match="single value"):
        _ = report.metric("peak_rss_mib").stats


@pytest.mark.parametrize("fields", [{}, {"samples": (1.0,), "value": 1.0}, {"value": math.inf}])
def test_a_measurement_is_samples_or_one_value(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="x_ms"):
        Measurement("x_ms", "ms", **fields)
