"""What ``mmllm quantize`` works with: the recipe, the pictures it is calibrated on, and what they show."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmllm_cli.console import print_note, progress
from mobile_multimodal.bundle import ModelBundle
from mobile_multimodal.errors import UsageError
from quantization.calibration import CalibrationPictures, find_pictures
from quantization.mixed import assign_bits
from quantization.quantize import Prepared
from quantization.recipe import MIXED, QuantizationRecipe, load_recipe
from quantization.sensitivity import look_at_every_layer, measure_sensitivity

__all__ = ["QuantizeInputs", "check_recipe_options", "prepare_inputs"]

MIB = 2**20


@dataclass(frozen=True)
class QuantizeInputs:
    """A recipe and its pictures; ``prepared`` where these have been looked at already.

    ``json`` is what the document says of them.
    """

    recipe: QuantizationRecipe
    pictures: tuple[Path, ...]
    prepared: Prepared | None
    json: Mapping[str, Any]


def check_recipe_options(
    recipe: str, target_size_mib: float | None, calibration_data: Path | None, finetune: Path | None
) -> None:
    """Check that the options fit each other, before anything is loaded.

    Raises:
        UsageError: ``mixed`` without a size or without pictures, or to be trained; a size that is not
            positive and finite, or for another recipe; an unknown recipe.
    """
    if recipe != MIXED:
        if target_size_mib is not None:
            raise UsageError("--target-size-mib is for --recipe mixed", remedy="give --recipe mixed too")
        load_recipe(recipe)
        return
    if finetune is not None:
        raise UsageError(
            "--finetune cannot train the recipe mixed", remedy="name another recipe, such as int4"
        )
    if target_size_mib is None:
        raise UsageError(
            "the recipe mixed is made for a size, and none is given", remedy="give --target-size-mib N too"
        )
    if not (math.isfinite(target_size_mib) and target_size_mib > 0):
        raise UsageError(
            f"--target-size-mib {target_size_mib:g} is no size", remedy="give a positive number of MiB"
        )
    if calibration_data is None:
        raise UsageError(
            "the recipe mixed is calibrated on pictures", remedy="name a folder with --calibration-data"
        )


def prepare_inputs(
    source: ModelBundle,
    recipe: str,
    *,
    target_size_mib: float | None,
    calibration_data: Path | None,
    most: int,
    quiet: bool,
) -> QuantizeInputs:
    """Find the pictures, name those that are skipped, and for ``mixed`` look at them and make the recipe.

    Raises:
        DataError: too few pictures.
        UsageError: an unknown recipe, or a size below the smallest possible.
    """
    found = CalibrationPictures((), {})
    shown: dict[str, Any] = {}
    if calibration_data is not None:
        found = find_pictures(calibration_data, most)
        for name, reason in found.broken.items():
            print_note(f"calibration picture {name} is skipped: {reason}")
        shown["calibration"] = {"pictures": len(found.good), "skipped": dict(found.broken)}
    if target_size_mib is None:
        return QuantizeInputs(load_recipe(recipe), found.good, None, shown)
    with progress("calibrating", wanted=not quiet) as bar:
        statistics = look_at_every_layer(source, found.good, progress=bar.show)
    with progress("measuring", wanted=not quiet) as bar:
        weights = measure_sensitivity(source, statistics, progress=bar.show)
    plan = assign_bits(source, weights, int(target_size_mib * MIB))
    shown["mixed"] = {
        "target_size_mib": target_size_mib,
        "predicted_bytes": plan.predicted_bytes,
        "noise_to_signal": plan.noise,
    }
    if not quiet:
        print_note(
            f"{plan.recipe.name}: all files together, the vocabulary too, take at most "
            f"{plan.predicted_bytes / MIB:.2f} MiB"
        )
    return QuantizeInputs(plan.recipe, found.good, Prepared(statistics=statistics), shown)
