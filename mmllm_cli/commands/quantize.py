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
        typer.Option("--recipe", metavar="NAME|FILE", help="int8, int4, a full name, or a .json file."),
    ] = "int8",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Where the new bundle is written.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the predicted sizes and write nothing.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an output that exists.")] = False,
    tensors: Annotated[bool, typer.Option("--tensors", help="One line for every tensor too.")] = False,
    as_json: AsJson = False,
) -> int:
    """Store a bundle's weights in fewer bits (needs the export extra)."""
    from mmllm_cli.console import print_json, progress
    from mmllm_cli.quantize_output import print_quantization
    from mobile_multimodal.bundle import find_model, load_bundle
    from mobile_multimodal.errors import UsageError
    from quantization.quantize import predict, quantize_bundle
    from quantization.recipe import load_recipe

    if output is None and not dry_run:
        raise UsageError("nowhere to write to", remedy="give -o DIR, or --dry-run")
    chosen = load_recipe(recipe)
    source = load_bundle(find_model(bundle, "torch"))
    if output is None or dry_run:
        report = predict(source, chosen)
    else:
        with progress("quantizing", wanted=not as_json) as bar:
            report = quantize_bundle(source, chosen, output, force=force, progress=bar.show).report
    if as_json:
        print_json({**report.to_json(), "output": None if dry_run else str(output)})
    else:
        print_quantization(report, None if dry_run else output, tensors=tensors)
    return 0
