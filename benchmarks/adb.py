"""A TFLite artifact on a phone: LiteRT's ``benchmark_model``, run through adb and read into a report."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.adb_output import (
    AttachedDevice,
    BenchmarkModelResult,
    parse_benchmark_model,
    parse_devices,
)
from benchmarks.benchmark_config import BenchmarkConfig
from benchmarks.environment import commit
from benchmarks.evaluation_report import Progress
from benchmarks.report import BenchmarkReport, Measurement
from mobile_multimodal.bundle import ModelBundle, load_bundle
from mobile_multimodal.errors import MissingExtraError, MmllmError, UsageError
from mobile_multimodal.manifest import hash_file

__all__ = [
    "BINARY_VARIABLE",
    "DEVICE_NOTE",
    "attached_devices",
    "benchmark_binary",
    "benchmark_on_device",
    "choose_device",
]

BINARY_VARIABLE = "MMLLM_BENCHMARK_MODEL"
"""The environment variable that names the program to push."""
BINARY_SOURCE = "https://storage.googleapis.com/litert/binaries/latest/android_arm64/benchmark_model"
DEVICE_NOTE = "parsed from benchmark_model; no phone was used in our tests"
FOLDER = "/data/local/tmp"
"""Where Android lets adb put programs and run them."""
REMEDIES: Mapping[str, str] = {
    "unauthorized": "unlock it and accept this computer's key",
    "offline": "unplug it, plug it in again, and see adb devices",
    "no permissions": "see developer.android.com/tools/device for the udev rules",
}
READER = ("text_detector", "text_recognizer")
PATIENCE_SECS = 60.0
"""What loading, input and the way there and back may take."""
PROPERTIES: Mapping[str, str] = {
    "device": "ro.product.model",
    "cpu": "ro.soc.model",
    "board": "ro.board.platform",
    "abi": "ro.product.cpu.abi",
    "platform": "ro.build.version.release",
}
"""What is read of a phone: part of the environment → Android's property."""


def attached_devices() -> tuple[AttachedDevice, ...]:
    """The phones that adb sees, in its order, those that cannot be used too.

    Raises:
        MissingExtraError: there is no adb.
        MmllmError: adb failed.
    """
    return parse_devices(_adb("devices", "-l"))


def choose_device(device: str) -> AttachedDevice:
    """The phone that ``adb`` or ``adb:SERIAL`` names.

    Raises:
        UsageError: another form, or a serial that is not attached.
        MissingExtraError: there is no adb.
        MmllmError: no phone, several of them and no serial, or one that is not ready.
    """
    kind, colon, serial = device.partition(":")
    if kind != "adb" or (colon and not serial):
        raise UsageError(f"unknown device {device!r}", remedy="adb, adb:SERIAL or list")
    attached = attached_devices()
    listed = ", ".join(f"adb:{found.serial}" for found in attached)
    if not attached:
        raise MmllmError("no phone is attached", remedy="plug one in with USB debugging on, see adb devices")
    if serial and serial not in {found.serial for found in attached}:
        raise UsageError(f"no phone {serial!r} is attached", remedy=f"there are {listed}")
    if not serial and len(attached) > 1:
        raise MmllmError(f"{len(attached)} phones are attached", remedy=f"name one: {listed}")
    chosen = next(found for found in attached if found.serial == serial or not serial)
    if chosen.state != "device":
        raise MmllmError(
            f"phone {chosen.serial} cannot be used: {chosen.state}", remedy=REMEDIES.get(chosen.state)
        )
    return chosen


def benchmark_binary(path: Path | None = None) -> Path:
    """The ``benchmark_model`` to push: a file, or what ``MMLLM_BENCHMARK_MODEL`` names.

    Raises:
        MissingExtraError: neither is given.
        UsageError: there is no such file.
    """
    named = path or (Path(os.environ[BINARY_VARIABLE]) if os.environ.get(BINARY_VARIABLE) else None)
    if named is None:
        raise MissingExtraError(
            "benchmark_model", remedy=f"download {BINARY_SOURCE} and set {BINARY_VARIABLE} to its path"
        )
    if not named.is_file():
        raise UsageError(f"benchmark_model {named} is no file", remedy=f"download {BINARY_SOURCE}")
    return named


def benchmark_on_device(
    device: str,
    artifact: ModelBundle | Path,
    config: BenchmarkConfig,
    binary: Path | None = None,
    progress: Progress | None = None,
) -> BenchmarkReport:
    """Run every graph of an artifact on a phone, on random inputs → a report of means.

    ``encode_ms``, ``prefill_ms`` (the shortest prefill graph, as captions use it), ``decode_step_ms`` and
    the graphs of the reader by their names, each with ``…_init_ms``, ``…_first_ms`` and ``…_peak_mib``.
    They are single values: the program prints no samples. What it prints of the spread is in the notes.

    Args:
        device: ``adb`` or ``adb:SERIAL``.
        artifact: exported for TFLite.
        config: ``num_runs`` for the captioner's graphs and ``ocr_runs`` for the reader's, 0 for none;
            ``warmup``, ``min_secs``, ``max_secs``, ``threads``. The scenario is ``single-stream``.
        binary: as :func:`benchmark_binary` takes it.
        progress: called with graphs done and graphs to do.

    Raises:
        UsageError: another device, scenario or target, or a program that is not there.
        MissingExtraError: adb or the program is not there.
        DataError: a graph that the program cannot run.
        MmllmError: a phone that is not ready or goes away.
    """
    bundle = load_bundle(artifact) if isinstance(artifact, Path) else artifact
    manifest = bundle.manifest
    if manifest.target != "tflite":
        raise UsageError(
            f"{bundle.directory} is for {manifest.target}; phones run TFLite",
            remedy=f"mmllm export {manifest.name} --target tflite -o DIR",
        )
    if config.scenario != "single-stream" or config.sustained_secs:
        raise UsageError("a phone runs single-stream alone", remedy="leave --scenario and --sustained out")
    program = benchmark_binary(binary)
    serial = choose_device(device).serial
    runs = {
        (component.weights, graph.name): config.ocr_runs if component.name in READER else config.runs
        for component in manifest.components
        for graph in component.graphs
    }
    wanted = {key: count for key, count in runs.items() if count}
    folder = f"{FOLDER}/mmllm-{bundle.sha256[:12]}"
    metrics: dict[str, Measurement] = {}
    try:
        _adb("-s", serial, "shell", f"mkdir -p {folder}")
        files = [program, *(bundle.directory / name for name in dict.fromkeys(file for file, _ in wanted))]
        for file in files:
            # A large file over a slow cable.
            seconds = PATIENCE_SECS + file.stat().st_size / 2**20
            remote = f"{folder}/{'benchmark_model' if file is program else file.name}"
            _adb("-s", serial, "push", str(file), remote, seconds=seconds)
        _adb("-s", serial, "shell", f"chmod 755 {folder}/benchmark_model")
        for done, ((file_name, graph), count) in enumerate(wanted.items(), start=1):
            command = _command(f"{folder}/{Path(file_name).name}", graph, count, config, folder)
            limit = 2 * config.max_secs + PATIENCE_SECS  # warm-up and runs
            printed = _adb("-s", serial, "shell", command, seconds=limit, must_succeed=False)
            metrics |= _metrics(graph, parse_benchmark_model(printed, graph), metrics)
            if progress is not None:
                progress(done, len(wanted))
        here = _environment(serial)
    finally:
        with suppress(MmllmError):  # what went wrong before says more
            _adb("-s", serial, "shell", f"rm -rf {folder}")
    size = sum(entry.bytes for entry in manifest.files.values())
    metrics["artifact_mib"] = Measurement("artifact_mib", "MiB", value=size / 2**20)
    how = {"backend": "litert", "measured_by": DEVICE_NOTE, "benchmark_model_sha256": hash_file(program)}
    return BenchmarkReport(
        artifact_sha256=bundle.sha256,
        model=manifest.name,
        format=manifest.target,
        recipe=manifest.recipe,
        bytes=size,
        scenario=config.scenario,
        config={**config.to_json(), **how},
        environment=here,
        metrics=metrics,
    )


def _command(file: str, graph: str, runs: int, config: BenchmarkConfig, folder: str) -> str:
    options = {
        "graph": file,
        "signature_to_run_for": graph,
        "num_threads": config.threads,
        "num_runs": runs,
        "min_secs": config.min_secs,
        "max_secs": config.max_secs,
        "warmup_runs": config.warmup,
        "warmup_min_secs": 0,
        "report_peak_memory_footprint": "true",
    }
    words = [f"{folder}/benchmark_model", *(f"--{name}={value}" for name, value in options.items())]
    return f"{shlex.join(words)} 2>&1"


def _metrics(
    graph: str, result: BenchmarkModelResult, before: Mapping[str, Measurement]
) -> dict[str, Measurement]:
    base = {"decode": "decode_step"}.get(graph, graph)
    if graph.startswith("prefill_") and "prefill_ms" not in before:  # graphs come from short to long
        base = "prefill"
    spread = ", ".join(f"{name} {ms:.4g}" for name, ms in result.spread.items())
    note = f"graph {graph}, mean of {result.count}" + (f"; {spread} ms" if spread else "")
    values = [
        Measurement(f"{base}_ms", "ms", value=result.mean_ms, note=note),
        Measurement(f"{base}_init_ms", "ms", value=result.init_ms),
    ]
    if result.first_ms is not None:
        values.append(Measurement(f"{base}_first_ms", "ms", value=result.first_ms))
    if result.peak_mib is not None:
        note = "of benchmark_model itself too, looked at from time to time"
        values.append(Measurement(f"{base}_peak_mib", "MiB", value=result.peak_mib, note=note))
    return {measurement.name: measurement for measurement in values}


def _environment(serial: str) -> dict[str, Any]:
    """What the phone tells of itself; None where it does not. Its serial is not kept."""
    found: dict[str, Any] = {}
    for name, key in PROPERTIES.items():
        found[name] = _adb("-s", serial, "shell", f"getprop {key}", must_succeed=False).strip() or None
    if found["platform"]:
        found["platform"] = f"Android {found['platform']}"
    cores = _adb("-s", serial, "shell", "nproc", must_succeed=False).strip()
    found["cores"] = int(cores) if cores.isdigit() else None
    found["commit"] = commit()
    sources = {name: f"getprop {key}" for name, key in PROPERTIES.items()}
    return {**found, "sources": {**sources, "cores": "nproc", "commit": "git rev-parse HEAD"}}


def _adb(*arguments: str, seconds: float = PATIENCE_SECS, must_succeed: bool = True) -> str:
    """What adb prints on standard output.

    Raises:
        MissingExtraError: there is no adb.
        MmllmError: it failed, or took too long.
    """
    what = f"adb {' '.join(word for word in arguments if word != '-s')}"[:80]
    try:
        done = subprocess.run(
            ["adb", *arguments], capture_output=True, stdin=subprocess.DEVNULL, timeout=seconds, check=False
        )
    except FileNotFoundError as exc:
        remedy = "install Android's platform tools, apt-get install adb"
        raise MissingExtraError("adb", remedy=remedy) from exc
    except OSError as exc:
        raise MmllmError(f"adb cannot be started: {exc.strerror}") from exc
    except subprocess.TimeoutExpired as exc:
        raise MmllmError(f"{what} did not end within {seconds:.0f} s") from exc
    printed = done.stdout.decode(errors="replace")
    complaint = done.stderr.decode(errors="replace").strip().splitlines()
    # A phone that goes away is an error of adb's own, whatever the program on it does.
    gone = [line for line in complaint if line.startswith(("error:", "adb: error:"))]
    if gone or (must_succeed and done.returncode):
        last = (gone or complaint or printed.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise MmllmError(f"{what}: {last.strip()[:300]}")
    return printed
