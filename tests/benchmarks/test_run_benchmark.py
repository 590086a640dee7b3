"""Small models measured from end to end: every stage, on every backend that runs here."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.benchmark_config import BenchmarkConfig
from benchmarks.cold_process import run_cold
from benchmarks.report import BenchmarkReport
from benchmarks.run_benchmark import ModelReference, model_references, run_benchmark
from benchmarks.stages import StagedModel, drawn_page
from mobile_multimodal import MobileMultiModalLLM
from mobile_multimodal.bundle import ModelBundle
from mobile_multimodal.errors import InconclusiveError, UsageError

CAPTION_STAGES = {
    "read_ms",
    "preprocess_ms",
    "encode_ms",
    "prefill_ms",
    "ttft_ms",
    "decode_step_ms",
    "decode_ms_per_token",
    "caption_ms",
}
QUICK = BenchmarkConfig(num_runs=3, warmup=1, cold_runs=0, ocr_runs=0)


def photo_of(tiny_pictures: tuple[Path, ...]) -> bytes:
    return tiny_pictures[0].read_bytes()


def test_stages_are_parts_of_the_whole(tiny_bundle: ModelBundle, tiny_pictures: tuple[Path, ...]) -> None:
    model = MobileMultiModalLLM(tiny_bundle.directory, backend="torch", threads=1)
    photo = photo_of(tiny_pictures)
    sample = StagedModel(model).caption(photo)
    stages = dict(sample.stages_ms)
    assert stages.keys() == CAPTION_STAGES
    assert all(ms > 0 for ms in stages.values())
    # The last token needs no step of its own; the one before the limit neither.
    steps = sample.tokens - 1
    parts = sum(stages[name] for name in ("read_ms", "preprocess_ms", "encode_ms", "prefill_ms"))
    assert parts <= stages["ttft_ms"] <= stages["caption_ms"]
    assert stages["decode_step_ms"] <= stages["decode_ms_per_token"]
    assert stages["ttft_ms"] + steps * stages["decode_ms_per_token"] <= stages["caption_ms"]
    assert sample.text == model.generate_caption(photo)


def test_reports_of_two_backends_measured_in_turns(
    tiny_bundle: ModelBundle, tiny_artifacts: dict[str, Path], tiny_pictures: tuple[Path, ...]
) -> None:
    references = model_references([str(tiny_bundle.directory), str(tiny_artifacts["float32"])])
    assert [reference.backend for reference in references] == ["torch", "onnxruntime"]
    reports = run_benchmark(references, QUICK, photo_of(tiny_pictures))
    assert [(report.format, report.recipe) for report in reports] == [
        ("torch", "float16"),
        ("onnx", "float32"),
    ]
    for report in reports:
        assert report.metrics.keys() >= CAPTION_STAGES | {"tokens_per_s", "artifact_mib"}
        assert {report.metric(name).stats.count for name in CAPTION_STAGES} == {3}
        per_token = report.metric("decode_ms_per_token").center
        assert report.metric("tokens_per_s").center == pytest.approx(1000 / per_token)
        assert BenchmarkReport.from_json(report.to_json()) == report
        assert not {"load_ms", "ocr_ms", "peak_rss_mib"} & report.metrics.keys()
    assert reports[0].artifact_sha256 == tiny_bundle.sha256
    assert (
        reports[0].bytes
        == sum(f.stat().st_size for f in tiny_bundle.directory.iterdir())
        - (tiny_bundle.directory / "bundle.json").stat().st_size
    )
    assert reports[0].config["photo"]["size"] == [72, 60]


def test_stages_are_held_against_the_machine_where_medians_are_stated(
    tiny_artifacts: dict[str, Path], tiny_pictures: tuple[Path, ...]
) -> None:
    references, photo = model_references([str(tiny_artifacts["float32"])]), photo_of(tiny_pictures)
    common = {"cold_runs": 0, "ocr_runs": 0}
    [few] = run_benchmark(references, BenchmarkConfig(num_runs=10, **common), photo)
    assert "gemm_peak_gflops" not in few.metrics
    [report] = run_benchmark(references, BenchmarkConfig(num_runs=11, **common), photo)
    assert report.metric("gemm_peak_gflops").center > 0
    assert report.metric("encode_peak_percent").center > 0
    [without] = run_benchmark(references, BenchmarkConfig(num_runs=11, roofline=False, **common), photo)
    assert "gemm_peak_gflops" not in without.metrics


def test_multi_stream_times_whole_queries(tiny_bundle: ModelBundle, tiny_pictures: tuple[Path, ...]) -> None:
    references = model_references([str(tiny_bundle.directory)])
    config = BenchmarkConfig(scenario="multi-stream", num_runs=12, batch_size=3, warmup=0, cold_runs=0)
    [report] = run_benchmark(references, config, photo_of(tiny_pictures))
    query = report.metric("query_ms")
    assert query.stats.count == 12
    assert report.metric("images_per_s").center == pytest.approx(3 * 1000 / query.center)


def test_cold_processes_and_reading_of_the_packaged_model(photo_bytes: bytes) -> None:
    config = BenchmarkConfig(num_runs=1, warmup=0, cold_runs=2, ocr_runs=2)
    [report] = run_benchmark(model_references([]), config, photo_bytes)
    for name in ("cold_process_ms", "load_ms", "first_inference_ms", "detect_ms", "recognize_ms", "ocr_ms"):
        assert report.metric(name).stats.count == 2
    for process, load, first in zip(
        *(report.metric(n).samples for n in ("cold_process_ms", "load_ms", "first_inference_ms")), strict=True
    ):
        assert load + first < process
    for detect, recognize, whole in zip(
        *(report.metric(name).samples for name in ("detect_ms", "recognize_ms", "ocr_ms")), strict=True
    ):
        assert detect + recognize <= whole
    assert report.metric("ocr_ms").note == "7 lines"
    assert report.metric("peak_rss_mib").center > report.metric("peak_rss_caption_mib").center > 50
    assert report.metric("artifact_mib").center == report.bytes / 2**20


def test_sustained_compares_first_and_last_part(
    tiny_artifacts: dict[str, Path], tiny_pictures: tuple[Path, ...]
) -> None:
    config = BenchmarkConfig(num_runs=1, warmup=0, cold_runs=0, ocr_runs=0, sustained_secs=0.4)
    references = model_references([str(tiny_artifacts["float32"])])
    [report] = run_benchmark(references, config, photo_of(tiny_pictures))
    drift = report.metric("sustained_drift_percent")
    assert drift.note == "median of the last 0.2 s against the first 0.2 s"
    assert drift.center > -100
    assert sum(report.metric("sustained_ms").samples) <= 1000 * 60


def test_a_page_is_read_as_it_was_drawn() -> None:
    model = StagedModel(MobileMultiModalLLM(threads=1))
    assert model.can_read
    assert "Order two ladders and forty metres of rope." in model.read(drawn_page()).text


def test_a_process_that_fails_is_no_measurement(tmp_path: Path, photo_bytes: bytes) -> None:
    with pytest.raises(InconclusiveError, match=r"ended with code 1: .*neither a packaged model"):
        run_cold(str(tmp_path / "missing"), "onnxruntime", 1, photo_bytes)


def test_which_backend_runs_which_model(tiny_bundle: ModelBundle, tmp_path: Path) -> None:
    folder = str(tiny_bundle.directory)
    assert model_references([]) == (ModelReference(None, "onnxruntime"),)
    assert model_references(["mmllm-base", folder], ["onnxruntime", "torch"]) == (
        ModelReference("mmllm-base", "onnxruntime"),
        ModelReference("mmllm-base", "torch"),
        ModelReference(folder, "torch"),
    )
    with pytest.raises(UsageError, match="is for torch, not for onnxruntime"):
        model_references([folder], ["onnxruntime"])
    with pytest.raises(UsageError, match="unknown backend 'tvm'"):
        model_references([], ["tvm"])
    with pytest.raises(UsageError, match="neither a packaged model nor a directory"):
        model_references([str(tmp_path / "missing")])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"scenario": "streaming"}, "one of single-stream, multi-stream, offline, server"),
        ({"num_runs": 0}, "num runs 0 is below 1"),
        ({"max_secs": 0}, "max secs 0 is not above 0"),
        ({"max_secs": float("nan")}, "max secs nan is not above 0"),
        ({"min_secs": 61}, "min secs 61 is above max secs 60"),
        ({"qps": 5}, "qps is for scenario server, not single-stream"),
        ({"scenario": "offline", "sustained_secs": 5}, "sustained secs is for scenario single-stream"),
        ({"batch_size": 2}, "one picture at a time"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        BenchmarkConfig(**settings)


@pytest.fixture
def photo_bytes() -> bytes:
    return (Path(__file__).parents[2] / "examples" / "images" / "cat.jpg").read_bytes()
