"""The exports that one call asks for: plan, quantize first where asked, export, tell what was proven."""

from __future__ import annotations

import contextlib
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.environment import usable_cores
from exporters.base import ExportOptions
from exporters.export import ExportArtifact, export_bundle
from exporters.targets import TARGETS, find_target
from exporters.weight_storage import packed_bytes
from mmllm_cli.console import print_json, print_note, print_text, progress
from mmllm_cli.tables import aligned
from mobile_multimodal.backends.litert_backend import INTERPRETERS
from mobile_multimodal.bundle import ModelBundle, check_output, find_model, load_bundle
from mobile_multimodal.errors import UsageError

__all__ = ["ExportRequest", "run_exports"]

FLOATS = {"float16": 16, "float32": 32}
MIB = 2**20
ALL = "all"


@dataclass(frozen=True)
class ExportRequest:
    """The options of ``mmllm export``, as the command line gave them."""

    bundle: str | None
    targets: tuple[str, ...]
    output: Path | None
    recipe: str | None
    components: tuple[str, ...]
    static: bool
    ort: bool
    opset: int | None
    deployment_target: str
    image_input: bool
    pictures: int
    verify_with: str | None
    jobs: int | None
    parity: bool
    dry_run: bool
    force: bool
    as_json: bool


def run_exports(request: ExportRequest) -> int:
    """Export every target in turn; a failed proof ends the run (exit 4), what was written before stays.

    Raises:
        UsageError: options that do not go together, an unknown target or recipe, or an output that exists.
        GateFailedError: an artifact does not do what the bundle does.
    """
    if request.static and request.ort:
        raise UsageError("--static graphs share their weights, which --ort cannot", remedy="leave one out")
    targets = _targets(request)
    if request.output is None and not request.dry_run:
        raise UsageError("nowhere to write to", remedy="give -o DIR, or --dry-run")
    if request.verify_with is not None and request.verify_with not in INTERPRETERS:
        raise UsageError(
            f"unknown interpreter {request.verify_with!r}", remedy=f"one of {', '.join(INTERPRETERS)}"
        )
    outputs = {name: _output(request, name, len(targets) > 1) for name in targets}
    if not request.dry_run:
        for folder in outputs.values():
            check_output(folder, force=request.force)
    rows = []
    reference = None
    with _source(request) as (source, options):
        for name in targets:
            if request.dry_run:
                rows.append(_plan(source, name, request, options))
                continue
            verify_with = request.verify_with if name == "tflite" else None
            began = time.monotonic()
            with progress(f"exporting {name}", wanted=not request.as_json) as bar:
                artifact = export_bundle(
                    source,
                    name,
                    outputs[name],
                    options,
                    components=request.components,
                    parity=request.parity,
                    pictures=request.pictures,
                    verify_with=verify_with,
                    reference=reference,
                    jobs=request.jobs or len(usable_cores()),
                    force=request.force,
                    progress=lambda _, done, total: bar.show(done, total),
                )
            reference = artifact.reference
            rows.append(_row(source, name, outputs[name], options, artifact, time.monotonic() - began))
    if request.as_json:
        print_json({"artifacts": rows})
    else:
        _print(rows, request)
    return 0


def _targets(request: ExportRequest) -> tuple[str, ...]:
    if not request.targets:
        raise UsageError("no target", remedy=f"give --target {', '.join(TARGETS)} or {ALL}")
    named = dict.fromkeys(TARGETS if ALL in request.targets else request.targets)
    if unknown := [name for name in named if name not in TARGETS]:
        raise UsageError(f"unknown target {unknown[0]!r}", remedy=f"one of {', '.join(TARGETS)}, {ALL}")
    return tuple(named)


def _output(request: ExportRequest, target: str, several: bool) -> Path:
    base = request.output or Path()
    return base / target if several else base


@contextlib.contextmanager
def _source(request: ExportRequest) -> Iterator[tuple[ModelBundle, ExportOptions]]:
    """The bundle to export, quantized first where the recipe asks for it, and the options."""
    bundle = load_bundle(find_model(request.bundle, "torch"))
    bits = FLOATS.get(request.recipe or "float16")
    options = ExportOptions(
        float_bits=bits or 16,
        static=request.static,
        ort=request.ort,
        opset=request.opset,
        deployment_target=request.deployment_target,
        image_input=request.image_input,
    )
    if request.recipe is None or bits is not None:
        if bits is not None and request.recipe is not None and bundle.recipe != "float16":
            raise UsageError(
                f"{bundle.directory} is quantized ({bundle.recipe}) and does not become {request.recipe}",
                remedy="name the float16 bundle, or leave --recipe out",
            )
        yield bundle, options
        return
    from quantization.algorithms import CALIBRATED
    from quantization.plan import plan_quantization
    from quantization.quantize import quantize_bundle
    from quantization.recipe import load_recipe

    recipe = load_recipe(request.recipe)
    if bundle.recipe == recipe.name:
        yield bundle, options
        return
    if any(row.algorithm in CALIBRATED or row.input_method for row in plan_quantization(bundle, recipe)):
        raise UsageError(
            f"recipe {recipe.name} is calibrated on pictures",
            remedy=f"mmllm quantize --recipe {request.recipe} --calibration-data DIR -o BUNDLE, "
            "then mmllm export BUNDLE",
        )
    with tempfile.TemporaryDirectory() as scratch:
        yield quantize_bundle(bundle, recipe, Path(scratch) / "quantized").bundle, options


def _plan(source: ModelBundle, name: str, request: ExportRequest, options: ExportOptions) -> dict[str, Any]:
    target = find_target(name)
    parts = [
        c.name for c in source.manifest.components if not request.components or c.name in request.components
    ]
    return {
        "target": name,
        "recipe": source.recipe if source.recipe != "float16" else f"float{options.float_bits}",
        "output": None,
        "components": [
            {
                "name": part,
                "file": part + target.suffix,
                "packed_bytes": packed_bytes(source.stored_weights(part).values(), options.float_bits),
            }
            for part in parts
        ],
    }


def _row(
    source: ModelBundle,
    name: str,
    output: Path,
    options: ExportOptions,
    artifact: ExportArtifact,
    seconds: float,
) -> dict[str, Any]:
    manifest = artifact.bundle.manifest
    return {
        "target": name,
        "recipe": manifest.recipe,
        "output": str(output),
        "sha256": artifact.bundle.sha256,
        "bytes": sum(entry.bytes for entry in manifest.files.values()),
        "components": [
            {
                "name": part.name,
                "file": part.weights,
                "bytes": sum(
                    entry.bytes
                    for file, entry in manifest.files.items()
                    if file == part.weights or file.startswith(f"{part.weights}/")
                ),
                "packed_bytes": packed_bytes(source.stored_weights(part.name).values(), options.float_bits),
            }
            for part in manifest.components
        ],
        "parity": [asdict(report) | {"passed": report.passed} for report in artifact.parity],
        "seconds": round(seconds, 1),
        "peak_memory_mib": round(_peak_mib(), 1),
    }


def _peak_mib() -> float:
    """The most memory that this process, or one that converted for it, has held so far."""
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    used = max(resource.getrusage(who).ru_maxrss for who in whose)
    return used / MIB if sys.platform == "darwin" else used / 1024


def _print(rows: Sequence[Mapping[str, Any]], request: ExportRequest) -> None:
    header = ("target", "recipe", "component", "MiB", "packed MiB", "max abs error", "cosine")
    lines: list[tuple[str, ...]] = [header]
    for row in rows:
        for part in row["components"]:
            error, cosine = _worst(row, part["name"])
            size = f"{part['bytes'] / MIB:.2f}" if "bytes" in part else ""
            packed = f"{part['packed_bytes'] / MIB:.2f}"
            lines.append((row["target"], row["recipe"], part["name"], size, packed, error, cosine))
    for line in aligned(lines):
        print_text(line)
    for row in rows:
        if row["output"] is None:
            continue
        for report in row.get("parity", ()):
            tasks = ", ".join(
                f"{task['task']} {task['equal']}/{task['pictures']}" for task in report["tasks"]
            )
            notes = "".join(f"; {note}" for note in report["notes"])
            print_note(f"{row['target']} under {report['runtime']}: equal to torch: {tasks}{notes}")
        golden = " with golden vectors" if row.get("parity") else ""
        if not golden:
            print_note(f"{row['target']}: nothing was proven (--no-parity)")
        print_note(
            f"{row['output']}: {row['bytes'] / MIB:.1f} MiB{golden}, {row['seconds']:.0f} s, "
            f"peak memory {row['peak_memory_mib']:.0f} MiB a process"
        )
    if request.dry_run:
        print_note("nothing was written (--dry-run)")


def _worst(row: Mapping[str, Any], component: str) -> tuple[str, str]:
    checks = [
        check
        for report in row.get("parity", ())
        for check in report["checks"]
        if check["component"] == component and check["cosine"] is not None
    ]
    if not checks:
        return "", ""
    error = max(check["max_abs_error"] for check in checks)
    return f"{error:.1e}", f"{min(check['cosine'] for check in checks):.6f}"
