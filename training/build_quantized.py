"""The trained low-bit model as it ships: bundle and artifact, their confidence measured on val."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from exporters.export import export_artifact
from mobile_multimodal.bundle import ModelBundle
from mobile_multimodal.config import ModelConfig
from mobile_multimodal.model import MobileMultiModalLLM
from quantization.quantize import prepare, quantize_bundle
from quantization.recipe import QuantizationRecipe
from training.calibrate import calibrate_model, read_calibration
from training.quantization_aware import LearnedTensors

__all__ = ["build_quantized"]


def build_quantized(
    source: ModelBundle,
    recipe: QuantizationRecipe,
    learned: LearnedTensors,
    pictures: Sequence[Path],
    name: str,
    data: Path,
    run: Path,
    output: Path,
) -> tuple[ModelBundle, ModelBundle]:
    """Write ``output/bundle`` and ``output/onnx_RECIPE`` under ``name``, replacing what is there.

    Fewer bits make a model surer of itself, or less sure, so that the confidence of ``source`` is measured
    anew, on the artifact: an uncalibrated copy is written to the run's folder first. What is not
    ``learned``, the text reader, is fitted to ``pictures``.

    Raises:
        DataError: the validation data cannot be read.
    """
    prepared = prepare(source, recipe, pictures, learned)

    def write(config: ModelConfig, folder: Path) -> tuple[ModelBundle, ModelBundle]:
        renamed = replace(source, config=config)
        bundle = quantize_bundle(renamed, recipe, folder / "bundle", prepared=prepared, force=True).bundle
        artifact = folder / f"onnx_{recipe.alias or recipe.name}"
        return bundle, export_artifact(bundle, "onnx", artifact, force=True)

    raw = replace(source.config, name=name, calibration={})
    _, artifact = write(raw, run / f"uncalibrated-{recipe.alias or recipe.name}")
    figures = run / f"{recipe.alias or recipe.name}-calibration.json"
    calibrate_model(MobileMultiModalLLM(artifact.directory), data, figures)
    return write(replace(raw, calibration=read_calibration(figures)), output)
