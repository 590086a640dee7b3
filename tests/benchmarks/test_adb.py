"""Phones behind a scripted adb, and what benchmark_model prints on them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.adb import (
    BINARY_VARIABLE,
    DEVICE_NOTE,
    attached_devices,
    benchmark_binary,
    benchmark_on_device,
    choose_device,
)
from benchmarks.adb_output import AttachedDevice, parse_benchmark_model, parse_devices
from benchmarks.benchmark_config import BenchmarkConfig
from benchmarks.compare import compare_reports
from benchmarks.report import BenchmarkReport
from mobile_multimodal.bundle import ModelBundle
from mobile_multimodal.errors import (
    DataError,
    InconclusiveError,
    MissingExtraError,
    MmllmError,
    UsageError,
)
from tests.benchmarks.scripted_adb import SCRIPTED_BENCHMARK_MODEL, Phones, write_artifact, write_program


@pytest.fixture
def phones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Phones:
    scripted = Phones(tmp_path)
    monkeypatch.setenv("PATH", f"{scripted.path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv(BINARY_VARIABLE, raising=False)
    return scripted


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    return write_program(tmp_path / "android_benchmark_model", SCRIPTED_BENCHMARK_MODEL)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return write_artifact(tmp_path_factory.mktemp("artifact") / "tflite")


def test_a_report_of_every_graph(phones: Phones, binary: Path, artifact: ModelBundle) -> None:
    root = phones.attach("0A1B2C")
    shown: list[tuple[int, int]] = []
    config = BenchmarkConfig(num_runs=70, warmup=3, threads=4, max_secs=20)
    report = benchmark_on_device(
        "adb", artifact, config, binary, lambda done, todo: shown.append((done, todo))
    )
    assert (report.format, report.model, report.recipe) == ("tflite", "tiny", "float16")
    assert report.artifact_sha256 == artifact.sha256
    assert report.metric("encode_ms").center == pytest.approx(41.0004)
    assert report.metric("prefill_ms").center == pytest.approx(6.0004)
    assert report.metric("decode_step_ms").center == pytest.approx(2.0004)
    assert report.metric("prefill_ms").note is not None
    assert "graph prefill_32, mean of 70; min 5.5, max 6.9" in report.metric("prefill_ms").note
    assert "median 6, p95 6.7 ms" in report.metric("prefill_ms").note
    assert "graph prefill_128" in (report.metric("prefill_128_ms").note or "")
    assert report.metric("encode_init_ms").center == pytest.approx(12.345)
    assert report.metric("encode_first_ms").center == pytest.approx(123.0)
    assert report.metric("encode_peak_mib").center == 42.5
    # Means alone: a percentile is refused, and a comparison does not judge.
    with pytest.raises(InconclusiveError, match="single value"):
        _ = report.metric("encode_ms").stats
    assert {change.verdict for change in compare_reports(report, report).metrics} == {"not judged"}
    assert BenchmarkReport.from_json(report.to_json()) == report
    here = report.environment
    assert (here["device"], here["cpu"], here["abi"]) == ("Some Phone", "SM1234", "arm64-v8a")
    assert (here["platform"], here["board"], here["cores"]) == ("Android 15", None, 8)
    assert "0A1B2C" not in str(report.to_json())
    assert report.config["measured_by"] == DEVICE_NOTE
    assert shown == [(1, 4), (2, 4), (3, 4), (4, 4)]
    runs = [line for line in phones.log if "--graph=" in line]
    assert len(runs) == 4
    assert all(
        "--num_threads=4 --num_runs=70 --min_secs=0.0 --max_secs=20 --warmup_runs=3" in x for x in runs
    )
    # Nothing stays on the phone.
    assert list((root / "tmp").iterdir()) == []


def test_states_and_serials(phones: Phones) -> None:
    with pytest.raises(MmllmError, match="no phone is attached") as none:
        choose_device("adb")
    assert none.value.exit_code == 3
    phones.attach("ONE")
    assert attached_devices() == (AttachedDevice("ONE", "device", "Some_Phone"),)
    assert choose_device("adb") == choose_device("adb:ONE")
    phones.attach("TWO", "unauthorized")
    with pytest.raises(MmllmError, match=r"2 phones are attached .name one: adb:ONE, adb:TWO"):
        choose_device("adb")
    with pytest.raises(MmllmError, match=r"phone TWO cannot be used: unauthorized .unlock it and accept"):
        choose_device("adb:TWO")
    with pytest.raises(UsageError, match=r"no phone 'THREE' is attached .there are adb:ONE, adb:TWO"):
        choose_device("adb:THREE")
    phones.attach("ZERO", "offline")
    with pytest.raises(MmllmError, match="phone ZERO cannot be used: offline"):
        choose_device("adb:ZERO")
    phones.attach("FOUR", "no permissions (missing udev rules? user is in the plugdev group)")
    with pytest.raises(MmllmError, match=r"phone FOUR cannot be used: no permissions .*udev rules"):
        choose_device("adb:FOUR")
    phones.attach("FIVE", "recovery")
    with pytest.raises(MmllmError, match=r"phone FIVE cannot be used: recovery$"):
        choose_device("adb:FIVE")


@pytest.mark.parametrize("device", ["usb", "adb:", "list", ""])
def test_other_devices_are_refused_by_name(device: str) -> None:
    with pytest.raises(UsageError, match="adb, adb:SERIAL or list"):
        choose_device(device)


def test_without_adb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingExtraError, match="adb is not installed"):
        attached_devices()


def test_without_the_program(
    phones: Phones, binary: Path, artifact: ModelBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    phones.attach("ONE")
    with pytest.raises(MissingExtraError, match=f"https://.*android_arm64.*{BINARY_VARIABLE}"):
        benchmark_on_device("adb", artifact, BenchmarkConfig())
    monkeypatch.setenv(BINARY_VARIABLE, str(binary))
    assert benchmark_binary() == binary
    monkeypatch.setenv(BINARY_VARIABLE, "/nowhere/benchmark_model")
    with pytest.raises(UsageError, match="/nowhere/benchmark_model is no file"):
        benchmark_binary()


def test_what_a_phone_cannot_run(phones: Phones, binary: Path, artifact: ModelBundle) -> None:
    with pytest.raises(UsageError, match="single-stream"):
        benchmark_on_device("adb", artifact, BenchmarkConfig(scenario="offline"), binary)
    from mobile_multimodal.bundle import find_model

    with pytest.raises(UsageError, match=r"is for onnx; phones run TFLite \(mmllm export mmllm-base"):
        benchmark_on_device("adb", find_model(None, "onnxruntime"), BenchmarkConfig(), binary)


def test_a_failing_program_gives_its_first_error_and_leaves_nothing(
    phones: Phones, tmp_path: Path, artifact: ModelBundle
) -> None:
    root = phones.attach("ONE")
    failing = write_program(
        tmp_path / "failing",
        "#!/bin/sh\necho 'INFO: STARTING!'\necho 'ERROR: Op builtin_code out of range: 207' >&2\n"
        "echo 'ERROR: Benchmarking failed.' >&2\nexit 1\n",
    )
    with pytest.raises(DataError, match=r"did not measure encode: Op builtin_code out of range: 207$"):
        benchmark_on_device("adb", artifact, BenchmarkConfig(), failing)
    assert list((root / "tmp").iterdir()) == []


def test_a_phone_that_goes_away(phones: Phones, tmp_path: Path, artifact: ModelBundle) -> None:
    root = phones.attach("ONE")
    leaving = write_program(tmp_path / "leaving", f"#!/bin/sh\nrm {root / 'state'}\n")
    with pytest.raises(MmllmError, match="error: closed") as lost:
        benchmark_on_device("adb", artifact, BenchmarkConfig(), leaving)
    assert lost.value.exit_code == 3


def test_lists_of_devices_in_their_forms() -> None:
    assert parse_devices("List of devices attached\n\n") == ()
    assert parse_devices("* daemon started successfully\n") == ()
    text = (
        "List of devices attached\n"
        "emulator-5554          device product:sdk model:sdk_gphone64 device:emu64a transport_id:1\n"
        "192.168.0.7:5555       offline transport_id:2\n"
    )
    assert parse_devices(text) == (
        AttachedDevice("emulator-5554", "device", "sdk_gphone64"),
        AttachedDevice("192.168.0.7:5555", "offline", None),
    )


def printed(count: str, timings: str) -> str:
    return f"INFO: count=1 curr=9000\n\n{count}\n\n{timings}\n"


def test_output_of_older_versions_and_of_equal_times() -> None:
    timings = "Inference timings in us: Init: 800, First inference: 9000, Warmup (avg): 9000, "
    older = printed(
        "count=50 first=4100 curr=4000 min=3900 max=4600 avg=4012.5 std=60",
        f"{timings}Inference (avg): 4012.5",
    )
    result = parse_benchmark_model(older, "encode")
    assert (result.count, result.mean_ms, result.init_ms, result.first_ms) == (50, 4.0125, 0.8, 9.0)
    assert result.spread == {"min": 3.9, "max": 4.6, "std": 0.06}
    assert result.peak_mib is None
    equal = printed("count=50 curr=4000(all same)", f"{timings}Inference (avg): 4000")
    assert parse_benchmark_model(equal, "encode").spread == {}
    # Six digits of a mean above a second, behind the prefix of a log.
    slow = printed(
        "I benchmark_litert_model: count=3 first=9 curr=9 min=1234566 max=1234569 avg=1.23457e+06",
        f"I benchmark_litert_model: {timings}Inference (avg): 1.23457e+06",
    )
    assert parse_benchmark_model(slow, "encode").mean_ms == 1234.57


@pytest.mark.parametrize(
    ("count", "mean"),
    [
        ("count=0", "nan"),
        ("count=50 first=1 curr=1 min=5000 max=6000 avg=4000 std=6", "4000"),
        ("count=50 first=1 curr=1 min=5 max=inf avg=4000 std=6", "4000"),
        ("count=50 curr=0(all same)", "0"),
    ],
)
def test_numbers_that_cannot_be_are_no_result(count: str, mean: str) -> None:
    timings = (
        f"Inference timings in us: Init: 8, First inference: 9, Warmup (avg): 9, Inference (avg): {mean}"
    )
    with pytest.raises(DataError, match="that cannot be"):
        parse_benchmark_model(printed(count, timings), "encode")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it printed nothing"),
        ("/data/local/tmp/x: not executable: 64-bit ELF file\n", "not executable: 64-bit ELF file"),
        ("INFO: STARTING!\nERROR: first\nERROR: Benchmarking failed.\n", "encode: first"),
    ],
)
def test_output_without_a_result_is_an_error_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        parse_benchmark_model(text, "encode")
