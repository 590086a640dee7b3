"""``mmllm benchmark`` and ``mmllm compare`` as real processes, and what they print."""

from __future__ import annotations

import copy
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageColor

from benchmarks.report import BenchmarkReport, Measurement, load_report, reports_to_json
from mmllm_cli.benchmark_output import benchmark_rows, headline, markdown_table
from mmllm_cli.benchmark_plot import draw_latency, place_curves
from mobile_multimodal.bundle import ModelBundle
from mobile_multimodal.errors import InconclusiveError
from tests.mmllm_cli.conftest import CommandLine, only_one_line

QUICK = ("--num-runs", "3", "--warmup", "0", "--cold-runs", "0", "--ocr-runs", "0")


def latencies(median: float, count: int = 140) -> tuple[float, ...]:
    return tuple((median * np.random.default_rng(0).lognormal(sigma=0.1, size=count)).tolist())


def report_of(median: float = 20.0, count: int = 140, **changes: Any) -> BenchmarkReport:
    metrics = (
        Measurement("load_ms", "ms", latencies(200.0, 11)),
        Measurement("caption_ms", "ms", latencies(median, count), note="10 tokens: A cat."),
        Measurement("tokens_per_s", "tokens/s", value=1234.5),
        Measurement("peak_rss_caption_mib", "MiB", value=128.4),
    )
    fields: dict[str, Any] = {
        "artifact_sha256": "00" * 32,
        "model": "some",
        "format": "onnx",
        "recipe": "float16",
        "bytes": 3 * 2**20,
        "scenario": "single-stream",
        "config": {"threads": 1},
        "environment": {"cpu": "one", "cores": 2, "python": "3.11", "versions": {}},
        "metrics": {metric.name: metric for metric in metrics},
    }
    return BenchmarkReport(**{**fields, **changes})


def written(path: Path, *reports: BenchmarkReport) -> Path:
    path.write_text(json.dumps(reports_to_json(reports)))
    return path


def test_the_table_puts_the_scenario_s_metric_first() -> None:
    report = report_of()
    header, first, second = benchmark_rows([report])
    assert header == ("Format", "Recipe", "Size MiB", "Metric", "p50 ms", "p95 ms", "tokens/s", "Peak MiB")
    stats = report.metric("caption_ms").stats
    shown = (f"{stats.percentile(50).value_ms:.1f}", f"{stats.percentile(95).value_ms:.1f}")
    assert first == ("onnx", "float16", "3.0", "caption_ms", *shown, "1,234", "128")
    assert second[3] == "load_ms"
    assert second[5] == "inconclusive: needs 130"
    assert len(benchmark_rows([report, report], ["caption_ms"])) == 3


def test_markdown_has_its_rule_and_every_row() -> None:
    lines = markdown_table(benchmark_rows([report_of()], ["caption_ms"]))
    assert lines[0].startswith("| Format | Recipe | Size MiB |")
    assert lines[1] == "| --- | --- | ---: | --- | ---: | ---: | ---: | ---: |"
    assert lines[2].startswith("| onnx | float16 | 3.0 | caption_ms |")


def test_a_report_without_latencies_has_no_headline() -> None:
    report = report_of(metrics={"artifact_mib": Measurement("artifact_mib", "MiB", value=1.0)})
    with pytest.raises(InconclusiveError, match="no latency was measured"):
        headline(report)


def test_the_plot_shows_the_samples() -> None:
    reports = [report_of(20.0), report_of(30.0, recipe="int8")]
    plot = place_curves(reports, "caption_ms")
    assert len({curve.color for curve in plot.curves}) == 2
    for curve, report in zip(plot.curves, reports, strict=True):
        # Half of the samples are left of the median, in the cumulative line as in the numbers.
        samples = sorted(report.metric("caption_ms").samples)
        ticks = sorted(plot.right_ms.items())
        scale = (ticks[-1][1] - ticks[0][1]) / (ticks[-1][0] - ticks[0][0])
        x = ticks[0][1] + (samples[69] - ticks[0][0]) * scale
        heights = [y for place, y in curve.cumulative if place == pytest.approx(x)]
        assert plot.percents[50] in [pytest.approx(y) for y in heights]
        assert [y for _, y in curve.cumulative] == sorted((y for _, y in curve.cumulative), reverse=True)
    data = draw_latency(reports, "caption_ms")
    assert data == draw_latency(reports, "caption_ms")
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    for curve in plot.curves:
        assert (pixels == ImageColor.getrgb(curve.color)).all(axis=2).sum() > 500
    with pytest.raises(InconclusiveError, match="no samples to plot"):
        place_curves(reports, "peak_rss_caption_mib")


def test_two_small_models_from_end_to_end(
    mmllm: CommandLine, tiny_bundle: ModelBundle, tiny_pictures: tuple[Path, ...], tmp_path: Path
) -> None:
    folder = tiny_bundle.directory
    done = mmllm(
        *("benchmark", folder, *QUICK, "--image", tiny_pictures[0]),
        *("-o", tmp_path / "report.json", "--plot", tmp_path / "latency.png"),
    )
    assert done.code == 0, done.err
    where, header, first, *_ = done.out.splitlines()
    assert where.startswith("single-stream, threads 1, ")
    assert header.split()[:2] == ["Format", "Recipe"]
    assert first.split()[:4] == ["torch", "float16", f"{tiny_size(tiny_bundle):.1f}", "caption_ms"]
    assert "inconclusive: needs 130" in first
    [report] = load_report(tmp_path / "report.json")
    assert report.artifact_sha256 == tiny_bundle.sha256
    assert Image.open(tmp_path / "latency.png").format == "PNG"


def tiny_size(bundle: ModelBundle) -> float:
    return sum(entry.bytes for entry in bundle.manifest.files.values()) / 2**20


def test_json_is_the_document_of_the_file(mmllm: CommandLine, photo: Path, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    done = mmllm("benchmark", *QUICK, "--image", photo, "--json", "-o", path)
    assert done.code == 0, done.err
    assert json.loads(only_one_line(done.out.splitlines())) == json.loads(path.read_text())
    same = mmllm("compare", path, path, "--fail-above", "0", "--json")
    assert same.code == 0
    [comparison] = same.rows[0]["comparisons"]
    assert {row["ratio"] for row in comparison["metrics"]} == {1.0}


def test_operators_are_traced_and_do_not_hinder_comparing(
    mmllm: CommandLine, photo: Path, tmp_path: Path
) -> None:
    path = tmp_path / "report.json"
    done = mmllm("benchmark", *QUICK, "--image", photo, "--op-tracing", "-o", path)
    assert done.code == 0, done.err
    [traced] = json.loads(path.read_text())["operators"]
    assert 0 < len(traced["rows"]) <= 10
    spent = [row["ms"] for row in traced["rows"]]
    assert spent == sorted(spent, reverse=True)
    for row in traced["rows"]:
        assert any(line.split()[:2] == [row["component"], row["op"]] for line in done.out.splitlines())
    assert len(load_report(path)) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--scenario", "stream"], "unknown scenario 'stream' (one of single-stream, multi-stream"),
        (["--backend", "tvm"], "unknown backend 'tvm' (one of onnxruntime, torch, litert, coreml)"),
        (["--metric", "speed_ms"], "unknown latency 'speed_ms' (one of cold_process_ms,"),
        (["--markdown", "--json"], "--markdown and --json are two forms"),
        (["--plot", "a.svg"], "a plot is a PNG file"),
        (["no-such-model"], "neither a packaged model nor a directory"),
        (["--qps", "3"], "qps is for scenario server"),
        (["-o", "/no/such/place/report.json"], "does not exist"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(
    mmllm: CommandLine, arguments: list[str], said: str
) -> None:
    done = mmllm("benchmark", *arguments)
    assert done.code == 2
    assert said in only_one_line(done.error_lines)


def test_a_missing_picture_is_a_known_error(mmllm: CommandLine, tmp_path: Path) -> None:
    done = mmllm("benchmark", "--image", tmp_path / "missing.jpg")
    assert done.code == 3
    assert "missing.jpg cannot be read" in only_one_line(done.error_lines)


def test_compare_tells_slower_and_fails_above_a_limit(mmllm: CommandLine, tmp_path: Path) -> None:
    before = written(tmp_path / "a.json", report_of(20.0))
    environment = {"cpu": "another", "cores": 2, "python": "3.11", "versions": {}}
    after = written(tmp_path / "b.json", report_of(25.0, environment=environment))
    shown = mmllm("compare", before, after)
    assert shown.code == 0
    row = next(line for line in shown.out.splitlines() if line.startswith("caption_ms"))
    assert row.split()[4] == "1.250"
    assert row.endswith("slower")
    assert "the runs differ: cpu: one against another" in shown.err
    assert mmllm("compare", before, after, "--fail-above", "30").code == 0
    failed = mmllm("compare", before, after, "--fail-above", "10", "--json")
    assert failed.code == 4
    [document] = failed.rows
    assert document["error"]["type"] == "GateFailedError"
    assert "caption_ms +25.0 %" in document["error"]["message"]
    assert document["comparisons"][0]["warnings"] == ["cpu: one against another"]
    assert mmllm("compare", after, before, "--fail-above", "0").code == 0


def test_compare_refuses_what_is_no_report(mmllm: CommandLine, tmp_path: Path) -> None:
    good = written(tmp_path / "a.json", report_of())
    document = copy.deepcopy(reports_to_json([report_of()]))
    document["reports"][0]["colour"] = "red"
    (tmp_path / "b.json").write_text(json.dumps(document))
    done = mmllm("compare", good, tmp_path / "b.json")
    assert done.code == 3
    assert "b.json: report 1: unknown key 'colour'" in only_one_line(done.error_lines)
