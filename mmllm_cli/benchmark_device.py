"""``mmllm benchmark --device``: the phones that adb sees, and artifacts that are run on one of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.adb import attached_devices, benchmark_on_device, choose_device
from benchmarks.benchmark_config import BenchmarkConfig
from benchmarks.report import BenchmarkReport, reports_to_json
from mmllm_cli.benchmark_output import write_reports
from mmllm_cli.console import print_json, print_note, print_text, progress
from mmllm_cli.output_files import check_can_write
from mmllm_cli.tables import aligned
from mobile_multimodal.errors import UsageError

__all__ = ["LIST", "list_devices", "run_on_device"]

LIST = "list"
"""What stands for no device, but for a list of them."""


def list_devices(*, as_json: bool) -> int:
    """Print every phone that adb sees: its serial, its state, its model.

    Raises:
        MissingExtraError: there is no adb.
        MmllmError: adb failed.
    """
    found = attached_devices()
    if as_json:
        print_json({"devices": [vars(device) for device in found]})
        return 0
    if not found:
        print_note("no phone is attached")
        return 0
    rows = [("device", "state", "model"), *((f"adb:{d.serial}", d.state, d.model or "") for d in found)]
    for line in aligned(rows):
        print_text(line)
    return 0


def run_on_device(
    device: str, models: Sequence[str], config: BenchmarkConfig, output: Path | None, *, as_json: bool
) -> int:
    """Run artifacts for TFLite on a phone, one after the other, and print means; no samples come back.

    Raises:
        UsageError: no artifact, another device, scenario or target, or an output that cannot be written.
        MissingExtraError: adb or ``benchmark_model`` is not there.
        MmllmError: a phone that is not ready or goes away, or a graph that it cannot run.
    """
    if not models:
        raise UsageError(
            "a phone needs an artifact", remedy="mmllm export --target tflite -o DIR, and name DIR"
        )
    if output is not None:
        check_can_write(output)
    choose_device(device)  # before any artifact is hashed
    reports = []
    for model in models:
        with progress(f"measuring {model}", wanted=not as_json) as bar:
            reports.append(benchmark_on_device(device, Path(model), config, progress=bar.show))
    document = reports_to_json(reports)
    if output is not None:
        write_reports(document, output)
    if as_json:
        print_json(document)
        return 0
    for report in reports:
        _print(report)
    return 0


def _print(report: BenchmarkReport) -> None:
    here = report.environment
    where = ", ".join(str(here[name]) for name in ("device", "cpu", "platform") if here.get(name))
    print_text(f"{report.title} on {where or 'a phone'}, threads {report.config['threads']}")
    rows = [("metric", "value", "unit", "note")]
    rows += [(m.name, f"{m.center:.4g}", m.unit, m.note or "") for m in report.metrics.values()]
    for line in aligned(rows):
        print_text(f"  {line}")
    print_note(str(report.config["measured_by"]))
