"""``mmllm quantize``: a smaller bundle, and what that cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmllm_cli.options import AsJson

__all__ = ["quantize"]


def quantize(
    bundle: Annotated[
        str | None, typer.Argument(metavar="[NAME|DIR]", help="A packaged model or a bundle's directory.")
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe",
            metavar="NAME|FILE",
            help="int8, int8-static, int4, int2, mixed, a full name, or a .json file.",
        ),
    ] = "int8",
    target_size_mib: Annotated[
        float | None,
        typer.Option(
            "--target-size-mib",
            metavar="N",
            help="For the recipe mixed: all files together take at most N MiB.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Where the new bundle is written.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the predicted sizes and write nothing.")
    ] = False,
    calibration_data: Annotated[
        Path | None,
        typer.Option(
            "--calibration-data",
            metavar="DIR",
            help="Pictures that all but int8 are fitted to: 32 or more.",
        ),
    ] = None,
    calibration_pictures: Annotated[
        int,
        typer.Option("--calibration-pictures", min=32, metavar="N", help="At most N of them, by name."),
    ] = 64,
    finetune: Annotated[
        Path | None,
        typer.Option(
            "--finetune",
            metavar="FILE.jsonl",
            help="Train on captioned pictures: see docs/own-data.md.",
        ),
    ] = None,
    epochs: Annotated[
        int, typer.Option("--epochs", min=1, metavar="N", help="Passes of --finetune over the pictures.")
    ] = 10,
    force: Annotated[bool, typer.Option("--force", help="Replace an output that exists.")] = False,
    tensors: Annotated[bool, typer.Option("--tensors", help="One line for every tensor too.")] = False,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE.png", help="Draw the SQNR of every quantized weight."),
    ] = None,
    eval_data: Annotated[
        Path | None,
        typer.Option(
            "--eval-data",
            metavar="DIR",
            help="Compare float and quantized on captions_val.jsonl, vqa_val.jsonl and drawn pages.",
        ),
    ] = None,
    eval_limit: Annotated[
        int | None,
        typer.Option(
            "--eval-limit", min=2, metavar="N", help="At most N photos, questions and pages of --eval-data."
        ),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Store a bundle's weights in fewer bits (needs the export extra)."""
    from mmllm_cli.console import print_json, progress
    from mmllm_cli.output_files import write_whole
    from mmllm_cli.quantize_inputs import check_recipe_options, prepare_inputs
    from mmllm_cli.quantize_output import print_quantization
    from mmllm_cli.quantize_plot import check_plot, draw_sqnr
    from mmllm_cli.quantize_quality import (
        prepare_quality_check,
        print_quality,
        quality_json,
        run_quality_check,
    )
    from mobile_multimodal.bundle import check_output, find_model, load_bundle
    from mobile_multimodal.errors import UsageError
    from quantization.quantize import predict, prepare, quantize_bundle

    if output is None and not dry_run:
        raise UsageError("nowhere to write to", remedy="give -o DIR, or --dry-run")
    if finetune is not None and dry_run:
        raise UsageError("--finetune trains and does not predict", remedy="leave --dry-run out")
    if dry_run and (plot is not None or eval_data is not None):
        raise UsageError(
            "--dry-run quantizes nothing that could be plotted or compared",
            remedy="leave --plot and --eval-data out, or --dry-run",
        )
    if eval_limit is not None and eval_data is None:
        raise UsageError("--eval-limit is for --eval-data", remedy="give --eval-data DIR too")
    if plot is not None:
        check_plot(plot)
    check_recipe_options(recipe, target_size_mib, calibration_data, finetune)
    if output is not None and not dry_run:
        check_output(output, force=force)  # before pictures are looked at, and data is read and drawn
    source = load_bundle(find_model(bundle, "torch"))
    check = None
    if eval_data is not None and output is not None:
        check = prepare_quality_check(source, eval_data, eval_limit)
    inputs = prepare_inputs(
        source,
        recipe,
        target_size_mib=target_size_mib,
        calibration_data=calibration_data,
        most=calibration_pictures,
        quiet=as_json,
    )
    if output is None or dry_run:
        report = predict(source, inputs.recipe)
    elif finetune is not None:
        from mmllm_cli.quantize_finetune import run_finetune

        report = run_finetune(
            source, inputs.recipe, finetune, output, epochs=epochs, pictures=inputs.pictures, force=force
        )
    else:
        with progress("calibrating", wanted=not as_json) as bar:
            prepared = inputs.prepared or prepare(source, inputs.recipe, inputs.pictures, progress=bar.show)
        with progress("quantizing", wanted=not as_json) as bar:
            report = quantize_bundle(
                source, inputs.recipe, output, prepared=prepared, force=force, progress=bar.show
            ).report
    document = {**report.to_json(), "output": None if dry_run else str(output), **inputs.json}
    if not as_json:
        print_quantization(report, None if dry_run else output, tensors=tensors)
    if plot is not None:
        write_whole(plot, draw_sqnr(report))
        document["plot"] = str(plot)
    if check is not None and output is not None:
        with progress("comparing", wanted=not as_json) as bar:
            comparison = run_quality_check(check, output, bar.show)
        document["quality"] = quality_json(comparison)
        if not as_json:
            print_quality(comparison)
    if as_json:
        print_json(document)
    return 0
