"""The conductor: plan, quantize every tensor, write the bundle, read it back, report."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mobile_multimodal.bundle import ModelBundle, check_output, save_directory
from mobile_multimodal.errors import UsageError
from mobile_multimodal.numerics import sqnr_db
from mobile_multimodal.quantized_tensor import QuantizedTensor, to_channels
from mobile_multimodal.weight_files import StoredTensor, write_weights
from quantization.algorithms import ALGORITHMS
from quantization.plan import PlannedTensor, plan_quantization
from quantization.recipe import QuantizationRecipe
from quantization.report import QuantizationReport, TensorReport, summarize

__all__ = ["QuantizationResult", "predict", "quantize_bundle", "quantize_tensor"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class QuantizationResult:
    """The new bundle, verified as it was read back, and what it cost."""

    bundle: ModelBundle
    report: QuantizationReport


def predict(bundle: ModelBundle, recipe: QuantizationRecipe) -> QuantizationReport:
    """What the recipe will do to the bundle, without doing it; see :func:`quantize_bundle` for errors."""
    planned = plan_quantization(bundle, recipe)
    return _report(bundle, recipe.name, [_row(tensor, None) for tensor in planned], None)


def quantize_tensor(weight: np.ndarray, planned: PlannedTensor) -> QuantizedTensor:
    """Quantize one float weight as planned.

    Raises:
        ValueError: nothing is planned for it, or it holds numbers that are not finite.
    """
    if planned.scheme is None or planned.role is None:
        raise ValueError(f"{planned.tensor} is not to be quantized")
    if not np.isfinite(weight).all():
        raise ValueError(f"{planned.component} {planned.tensor} holds numbers that are not finite")
    matrix = to_channels(weight.astype(np.float32), planned.role.axis)
    values, scale = ALGORITHMS[planned.algorithm](matrix, planned.scheme)
    return QuantizedTensor.of(values, scale, planned.scheme, planned.shape, planned.role.axis)


def quantize_bundle(
    bundle: ModelBundle,
    recipe: QuantizationRecipe,
    output: Path,
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> QuantizationResult:
    """Write the bundle with its weights stored as the recipe says; the same input gives the same bytes.

    Raises:
        UsageError: an output that exists and no ``force``, a bundle that is quantized already, an
            artifact, or a rule of the recipe that fits no weight.
        BundleError: the bundle cannot be read or the output not written.
        MissingExtraError: torch or safetensors is not installed.
    """
    check_output(output, force=force)
    if output.resolve() == bundle.directory.resolve():
        raise UsageError(f"{output} is the bundle that is quantized", remedy="name another output")
    planned = plan_quantization(bundle, recipe)
    rows: list[TensorReport] = []
    contents: dict[str, Path | bytes] = {}
    components = []
    for component in bundle.manifest.components:
        stored = bundle.stored_weights(component.name)
        written: dict[str, StoredTensor] = dict(stored)
        for tensor in planned:
            if tensor.component != component.name:
                continue
            weight = stored[tensor.tensor]
            noise = None
            if tensor.scheme is not None and not isinstance(weight, QuantizedTensor):
                quantized = quantize_tensor(weight, tensor)
                written[tensor.tensor] = quantized
                found = sqnr_db(weight, quantized.dequantize())
                noise = found if math.isfinite(found) else None
            rows.append(_row(tensor, noise))
            if progress is not None:
                progress(len(rows), len(planned))
        contents[component.weights] = write_weights(written)
        components.append(component)
    card = bundle.directory / "README.md"
    if card.exists():
        contents["README.md"] = card
    saved = save_directory(
        output,
        contents,
        kind="bundle",
        target="torch",
        recipe=recipe.name,
        config=bundle.config,
        tokenizer=bundle.tokenizer,
        class_names=bundle.class_names,
        components=tuple(components),
        tool_versions={"numpy": importlib.metadata.version("numpy")},
        bundle_sha256=bundle.sha256,
        force=force,
    )
    return QuantizationResult(saved, _report(bundle, recipe.name, rows, saved))


def _row(tensor: PlannedTensor, noise: float | None) -> TensorReport:
    return TensorReport(
        component=tensor.component,
        tensor=tensor.tensor,
        kind="" if tensor.role is None else tensor.role.kind,
        size=tensor.size,
        bits=tensor.bits,
        algorithm=tensor.algorithm,
        bytes_before=tensor.bytes_before,
        bytes_after=tensor.bytes_after,
        sqnr_db=noise,
    )


def _report(
    bundle: ModelBundle, recipe: str, rows: Sequence[TensorReport], saved: ModelBundle | None
) -> QuantizationReport:
    components = []
    for component in bundle.manifest.components:
        file = component.weights
        components.append(
            summarize(
                component.name,
                [row for row in rows if row.component == component.name],
                bundle.manifest.files[file].bytes,
                0 if saved is None else saved.manifest.files[file].bytes,
            )
        )
    report = QuantizationReport(recipe, bundle.sha256, tuple(rows), tuple(components))
    return report if saved is None else replace(report, sha256=saved.sha256)
