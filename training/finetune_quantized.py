"""``mmllm quantize --finetune``: quantization-aware training on one's own pictures."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mobile_multimodal.backends.torch_backend import load_modules
from mobile_multimodal.bundle import ModelBundle, check_output
from mobile_multimodal.errors import UsageError
from quantization.algorithms import CALIBRATED
from quantization.plan import plan_quantization
from quantization.quantize import QuantizationResult, prepare, quantize_bundle
from quantization.recipe import QuantizationRecipe
from training.adapt import fingerprint, own_validation, training_photos
from training.data import TrainingImages
from training.own_pictures import split_pictures
from training.quantization_aware import CAPTIONER, caption_model, train_quantized
from training.schedule import INT2
from training.stages import Stage, StageOptions

__all__ = ["FinetuneReport", "finetune_quantized"]


@dataclass(frozen=True)
class FinetuneReport:
    """The quantized bundle with its report, and figures on the held-out pictures, float and trained.

    Figures as in :class:`~training.own_figures.AdaptReport`; ``learned`` and ``held_out`` count pictures.
    """

    result: QuantizationResult
    learned: int
    held_out: int
    float_figures: Mapping[str, float]
    figures: Mapping[str, float]


def finetune_quantized(
    bundle: ModelBundle,
    recipe: QuantizationRecipe,
    data: Path,
    output: Path,
    *,
    epochs: int,
    pictures: Sequence[Path] = (),
    force: bool = False,
) -> FinetuneReport:
    """Quantize a float bundle by training on the pictures of a ``.jsonl``, every fifth of them held out.

    The text reader does not train: where the recipe asks for that it is calibrated on ``pictures``.
    After each epoch the held-out pictures are captioned, and the best state is stored. Checkpoints lie
    beside the output, and an interrupted run with the same pictures and epochs goes on from them.

    Raises:
        DataError: as :func:`~training.own_pictures.split_pictures`, or a picture that cannot be read.
        UsageError: fewer epochs than 1; as :func:`~quantization.quantize.quantize_bundle`.
    """
    if epochs < 1:
        raise UsageError(f"epochs {epochs} is below 1")
    if recipe.inputs:
        raise UsageError(
            f"recipe {recipe.name} rounds the inputs of layers, which training does not",
            remedy="calibrate it instead: --calibration-data DIR",
        )
    check_output(output, force=force)
    reader = [row for row in plan_quantization(bundle, recipe) if row.component not in CAPTIONER]
    if not pictures and any(row.algorithm in CALIBRATED for row in reader):
        raise UsageError(
            f"recipe {recipe.name} is calibrated on pictures for the text reader, which does not train",
            remedy="name a folder with --calibration-data",
        )
    learned, held_out = split_pictures(data, None)
    modules = load_modules(bundle)
    photos = training_photos(learned, modules["vision_encoder"], bundle)
    options = _options(len(photos), epochs)
    validation = own_validation(learned, held_out, bundle.config.vision.image_size)
    checkpoints = output.with_name(f".{output.name}.training")
    stage = Stage(
        photos=photos,
        images=TrainingImages([learned.store]),
        names=bundle.class_names,
        run=checkpoints / fingerprint((learned, held_out), bundle, (options, recipe)),
        config=bundle.config,
        tokenizer=bundle.tokenizer,
        validation=validation,
        device="cpu",
    )
    before = validation.measure(caption_model(bundle))
    tensors, figures = train_quantized(bundle, recipe, stage, options)
    prepared = prepare(bundle, recipe, pictures, tensors)
    # What the confidence of the float model was worth does not hold for this one.
    raw = replace(bundle, config=replace(bundle.config, calibration={}))
    result = quantize_bundle(raw, recipe, output, prepared=prepared, force=force)
    shutil.rmtree(checkpoints)
    return FinetuneReport(result, len(photos), len(held_out.rows), before, figures)


def _options(pictures: int, epochs: int) -> StageOptions:
    """The default schedule with one segment an epoch; few pictures make small batches, not few steps."""
    batch = replace(INT2.batch, photos=min(INT2.batch.photos, max(1, pictures // 8)))
    return replace(
        INT2, name="finetune", segments=epochs, photos_per_segment=pictures, average_decay=0.98, batch=batch
    )
