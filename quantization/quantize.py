"""The conductor: plan, quantize every tensor, write the bundle, read it back, report."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mobile_multimodal.bundle import ModelBundle, check_output, save_directory
from mobile_multimodal.errors import UsageError
from mobile_multimodal.numerics import sqnr_db
from mobile_multimodal.quantized_tensor import InputGrid, QuantizedTensor, to_channels
from mobile_multimodal.weight_files import StoredTensor, write_weights
from quantization.algorithms import ALGORITHMS, CALIBRATED
from quantization.calibration import InputStatistics, Key, calibrate, observe
from quantization.input_grids import fit_grid
from quantization.plan import PlannedTensor, plan_quantization
from quantization.recipe import QuantizationRecipe
from quantization.report import QuantizationReport, TensorReport, summarize

__all__ = ["Prepared", "QuantizationResult", "predict", "prepare", "quantize_bundle", "quantize_tensor"]

FALLBACK = "mse_clip"
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Prepared:
    """What is known of a bundle beyond its weights, by component and tensor.

    ``statistics`` and ``grids`` come from calibration. ``learned`` tensors, by component, are the outcome of
    training: they are stored as they are.
    """

    statistics: Mapping[Key, InputStatistics] = field(default_factory=dict)
    grids: Mapping[Key, InputGrid] = field(default_factory=dict)
    learned: Mapping[str, Mapping[str, StoredTensor]] = field(default_factory=dict)


@dataclass(frozen=True)
class QuantizationResult:
    """The new bundle, verified as it was read back, and what it cost."""

    bundle: ModelBundle
    report: QuantizationReport


def predict(bundle: ModelBundle, recipe: QuantizationRecipe) -> QuantizationReport:
    """What the recipe will do to the bundle, without doing it; see :func:`quantize_bundle` for errors."""
    planned = plan_quantization(bundle, recipe)
    return _report(bundle, recipe.name, [_row(tensor, None) for tensor in planned], None)


def quantize_tensor(
    weight: np.ndarray, planned: PlannedTensor, moment: NDArray[np.float64] | None = None
) -> QuantizedTensor:
    """Quantize one float weight as planned; ``moment`` [columns, columns] is that of the layer's inputs.

    Where calibration saw none, a calibrated algorithm gives way to ``FALLBACK``, which needs no more than
    the weight.

    Raises:
        ValueError: nothing is planned for it, or it holds numbers that are not finite.
    """
    if planned.scheme is None or planned.role is None:
        raise ValueError(f"{planned.tensor} is not to be quantized")
    if not np.isfinite(weight).all():
        raise ValueError(f"{planned.component} {planned.tensor} holds numbers that are not finite")
    matrix = to_channels(weight.astype(np.float32), planned.role.axis)
    if planned.algorithm in CALIBRATED and moment is not None:
        values, scale = CALIBRATED[planned.algorithm](matrix, planned.scheme, moment)
    else:
        chosen = FALLBACK if planned.algorithm in CALIBRATED else planned.algorithm
        values, scale = ALGORITHMS[chosen](matrix, planned.scheme)
    return QuantizedTensor.of(values, scale, planned.scheme, planned.shape, planned.role.axis)


def quantize_bundle(
    bundle: ModelBundle,
    recipe: QuantizationRecipe,
    output: Path,
    *,
    pictures: Sequence[Path] = (),
    prepared: Prepared | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> QuantizationResult:
    """Write the bundle with its weights stored as the recipe says; the same input gives the same bytes.

    ``pictures`` are what a recipe that asks for it is calibrated on; ``prepared`` is what was found before,
    and then no pictures are looked at.

    Raises:
        UsageError: an output that exists and no ``force``, a bundle that is quantized already, an
            artifact, a rule of the recipe that fits no weight, or a recipe that needs pictures and none.
        BundleError: the bundle cannot be read or the output not written.
        MissingExtraError: torch or safetensors is not installed.
    """
    check_output(output, force=force)
    if output.resolve() == bundle.directory.resolve():
        raise UsageError(f"{output} is the bundle that is quantized", remedy="name another output")
    planned = plan_quantization(bundle, recipe)
    known = prepare(bundle, recipe, pictures) if prepared is None else prepared
    rows: list[TensorReport] = []
    contents: dict[str, Path | bytes] = {}
    components = []
    for component in bundle.manifest.components:
        learned = known.learned.get(component.name, {})
        stored = bundle.stored_weights(component.name)
        written: dict[str, StoredTensor] = {**stored, **learned}
        for tensor in planned:
            if tensor.component != component.name:
                continue
            noise = None
            if tensor.scheme is not None and tensor.tensor not in learned:
                noise = _quantize_layer(tensor, written, known)
            rows.append(_row(tensor, noise, written[tensor.tensor], trained=tensor.tensor in learned))
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
        bundle_sha256=bundle.manifest.bundle_sha256 or bundle.sha256,
        force=force,
    )
    return QuantizationResult(saved, _report(bundle, recipe.name, rows, saved))


def prepare(
    bundle: ModelBundle,
    recipe: QuantizationRecipe,
    pictures: Sequence[Path],
    learned: Mapping[str, Mapping[str, StoredTensor]] | None = None,
    *,
    progress: Progress | None = None,
) -> Prepared:
    """Calibrate what the recipe asks for: second moments for its algorithms, grids for rounded inputs.

    ``learned`` tensors, by component, are ready already and ask for nothing.

    Raises:
        UsageError: the recipe asks for something and there are no pictures; as :func:`plan_quantization`.
    """
    ready = {} if learned is None else learned
    planned = [
        row for row in plan_quantization(bundle, recipe) if row.tensor not in ready.get(row.component, {})
    ]
    wanted = [(row.component, row.tensor) for row in planned if row.algorithm in CALIBRATED]
    methods = {(row.component, row.tensor): row.input_method for row in planned if row.input_method}
    if (wanted or methods) and not pictures:
        raise UsageError(
            f"recipe {recipe.name} is calibrated on pictures", remedy="name a folder with --calibration-data"
        )
    seen = observe(bundle, methods, pictures, progress=progress) if methods else {}
    return Prepared(
        statistics=calibrate(bundle, wanted, pictures, progress=progress) if wanted else {},
        grids={key: fit_grid(values, methods[key]) for key, values in seen.items()},
        learned=ready,
    )


def _quantize_layer(
    planned: PlannedTensor, written: dict[str, StoredTensor], known: Prepared
) -> float | None:
    """Quantize a weight among the tensors of its component, and correct its bias, in place → SQNR in dB."""
    weight = written[planned.tensor]
    assert not isinstance(weight, QuantizedTensor)
    key = planned.component, planned.tensor
    # Statistics that the recipe does not ask for change nothing: they may be there from choosing it.
    inputs = known.statistics.get(key) if planned.algorithm in CALIBRATED else None
    bias = planned.tensor.removesuffix("weight") + "bias"
    if inputs is None:
        quantized = quantize_tensor(weight, planned)
    elif bias in written:
        quantized = quantize_tensor(weight, planned, inputs.covariance)
        written[bias] = _corrected(written[bias], weight, quantized, inputs)
    else:
        quantized = quantize_tensor(weight, planned, inputs.moment)
    written[planned.tensor] = quantized = replace(quantized, input_grid=known.grids.get(key))
    found = sqnr_db(weight, quantized.dequantize())
    return found if math.isfinite(found) else None


def _corrected(
    bias: StoredTensor, weight: np.ndarray, quantized: QuantizedTensor, inputs: InputStatistics
) -> StoredTensor:
    """The bias that gives the layer's outputs their mean back (Nagel et al., arXiv 1906.04721)."""
    assert not isinstance(bias, QuantizedTensor)
    lost = to_channels(weight.astype(np.float32) - quantized.dequantize(), quantized.axis) @ inputs.mean
    return (bias + lost).astype(bias.dtype)


def _row(
    tensor: PlannedTensor, noise: float | None, stored: StoredTensor | None = None, *, trained: bool = False
) -> TensorReport:
    rounded = isinstance(stored, QuantizedTensor) and stored.input_grid is not None
    return TensorReport(
        component=tensor.component,
        tensor=tensor.tensor,
        kind="" if tensor.role is None else tensor.role.kind,
        size=tensor.size,
        bits=tensor.bits,
        algorithm="trained" if trained and tensor.algorithm else tensor.algorithm,
        bytes_before=tensor.bytes_before,
        bytes_after=tensor.bytes_after,
        sqnr_db=noise,
        input_bits=8 if rounded else None,
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
