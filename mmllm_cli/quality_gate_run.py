"""What ``mmllm quality-gate`` does: read the gate, check the options, run it, write what was asked for."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import typer

from benchmarks.compare_quality import load_quality_data
from benchmarks.gate import Gate
from benchmarks.gate_file import default_gate, default_gate_text, load_gate
from benchmarks.gate_metrics import METRICS
from benchmarks.gate_run import chosen_checks, run_gate
from benchmarks.gate_service import ServiceRun
from benchmarks.gate_subject import Requantize, open_subject
from mmllm_cli.console import print_json, print_note, print_text, progress
from mmllm_cli.output_files import check_can_write, write_whole
from mmllm_cli.quality_gate_output import (
    github_annotations,
    junit_xml,
    metrics_json,
    print_metrics,
    print_outcomes,
    print_verdict,
)
from mobile_multimodal.bundle import ModelBundle
from mobile_multimodal.errors import InconclusiveError, UsageError

__all__ = ["GateRequest", "list_metrics", "run_quality_gate", "write_gates_file"]

API_KEY = "MMLLM_API_KEY"
"""Environment variable of the service's key: what stands on a command line, others can read."""
TRAINED_BITS = 2
"""Widths that a model does not survive untrained, so that quantizing again gives other numbers."""


@dataclass(frozen=True)
class GateRequest:
    """The options of ``mmllm quality-gate``, as the command line gave them."""

    model: str | None
    gates: Path | None
    report: Path | None
    junit: Path | None
    service: str | None
    eval_data: Path | None
    github: bool
    as_json: bool


def run_quality_gate(request: GateRequest) -> int:
    """Run the gate and print it; the exit code is that of the result.

    Raises:
        UsageError: a bad gates file or URL, an output that cannot be written, an option that no check uses.
        BundleError: the artifact cannot be read.
        DataError: the evaluation data cannot be read.
    """
    gate = _gate(request)
    for path in (request.report, request.junit):
        if path is not None:
            check_can_write(path)
    service = None
    if request.service is not None:
        service = ServiceRun(request.service, api_key=os.environ.get(API_KEY))
    data = None
    if request.eval_data is not None:
        data = load_quality_data(request.eval_data, with_pages=False)
    with tempfile.TemporaryDirectory() as scratch:
        subject = open_subject(
            request.model,
            gate,
            requantize=_requantizer(Path(scratch)),
            evaluation=data,
            service=service,
        )
        with progress("quality gate", wanted=not request.as_json) as bar:
            result = run_gate(gate, subject, bar.show)
    document = result.to_json()
    if request.report is not None:
        text = json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1)
        write_whole(request.report, f"{text}\n".encode())
    if request.junit is not None:
        write_whole(request.junit, junit_xml(result))
    if request.as_json:
        print_json(document)
    else:
        print_outcomes(result)
    if request.github:
        for line in github_annotations(result):
            # GitHub reads both streams; a JSON document is alone on the first.
            typer.echo(line, err=True) if request.as_json else print_text(line)
    print_verdict(result)
    return result.exit_code


def _gate(request: GateRequest) -> Gate:
    gate = default_gate() if request.gates is None else load_gate(request.gates)
    given = {"eval-data": request.eval_data is not None, "service": request.service is not None}
    where = request.gates or "the packaged gate"
    for option, is_given in given.items():
        used = any(f"--{option}" in METRICS[check.metric].needs for check in gate.checks)
        if is_given and not used:
            raise UsageError(f"no check of {where} uses --{option}", remedy="add one, or leave it out")
    try:
        return chosen_checks(gate, [option for option, is_given in given.items() if is_given])
    except ValueError as exc:
        raise UsageError(f"{where}: {exc}", remedy="give --eval-data or --service") from exc


def _requantizer(scratch: Path) -> Requantize:
    def requantize(floats: ModelBundle, recipe_name: str) -> ModelBundle:
        from quantization.algorithms import CALIBRATED
        from quantization.plan import plan_quantization
        from quantization.quantize import quantize_bundle
        from quantization.recipe import load_recipe

        try:
            recipe = load_recipe(recipe_name)
        except UsageError as exc:
            raise InconclusiveError(f"no recipe makes {recipe_name}", remedy=_NAME_IT) from exc
        rows = plan_quantization(floats, recipe)
        if any(row.algorithm in CALIBRATED or row.input_method for row in rows):
            raise InconclusiveError(f"{recipe_name} is calibrated on pictures", remedy=_NAME_IT)
        if any(row.bits <= TRAINED_BITS for row in rows):
            raise InconclusiveError(f"{recipe_name} is trained", remedy=_NAME_IT)
        return quantize_bundle(floats, recipe, scratch / "quantized").bundle

    return requantize


_NAME_IT = 'name the quantized bundle in the gates file: torch_bundle = "DIR"'


def list_metrics(*, as_json: bool) -> int:
    """Print every metric."""
    if as_json:
        print_json(metrics_json())
    else:
        print_metrics()
    return 0


def write_gates_file(path: Path, *, as_json: bool) -> int:
    """Write the packaged gates file, with its comments, to a new file.

    Raises:
        UsageError: the file exists, or cannot be written there.
    """
    if os.path.lexists(path):
        raise UsageError(f"{path} exists", remedy="name another file, or remove it")
    check_can_write(path)
    write_whole(path, default_gate_text().encode())
    if as_json:
        print_json({"gates": str(path)})
    print_note(f"{path}: change what you need, then mmllm quality-gate --gates {path}")
    return 0
