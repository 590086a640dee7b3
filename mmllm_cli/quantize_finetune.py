"""``mmllm quantize --finetune``: training by the library, its log beside the result."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from mmllm_cli.console import print_note
from mobile_multimodal.bundle import ModelBundle
from quantization.recipe import QuantizationRecipe
from quantization.report import QuantizationReport
from training.finetune_quantized import finetune_quantized

__all__ = ["run_finetune"]


def run_finetune(
    source: ModelBundle,
    recipe: QuantizationRecipe,
    data: Path,
    output: Path,
    *,
    epochs: int,
    pictures: Sequence[Path],
    force: bool,
) -> QuantizationReport:
    """Quantize by training, and say what that is worth on pictures that were held out.

    Raises:
        DataError: the pictures cannot be used.
        UsageError: as :func:`~training.finetune_quantized.finetune_quantized`.
    """
    # The training log goes to standard error: standard output holds the result alone.
    with contextlib.redirect_stdout(sys.stderr):
        tuned = finetune_quantized(
            source, recipe, data, output, epochs=epochs, pictures=pictures, force=force
        )
    shown = ", ".join(
        f"{name.removesuffix('_held_out')} {value:.1f} in float, {tuned.figures[name]:.1f} quantized"
        for name, value in tuned.float_figures.items()
        if name.endswith("_held_out")
    )
    print_note(f"trained on {tuned.learned} pictures; on {tuned.held_out} held out: {shown}")
    return tuned.result.report
