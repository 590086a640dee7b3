"""``mmllm export``: artifacts for runtimes, with the proof that they do what the bundle does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmllm_cli.options import AsJson

__all__ = ["export"]


def export(
    bundle: Annotated[
        str | None, typer.Argument(metavar="[NAME|DIR]", help="A packaged model or a bundle's directory.")
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option("--target", metavar="NAME", help="onnx, tflite, coreml (repeatable), or all."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Where the artifact is written; with several targets, each in its own folder below.",
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            metavar="NAME",
            help="float16 or float32 weights, or int8, quantized first.  [default: as the bundle has them]",
        ),
    ] = None,
    component: Annotated[
        list[str] | None,
        typer.Option(
            "--component",
            metavar="NAME",
            help="All by default; vision_encoder and text_decoder leave the text reader out.",
        ),
    ] = None,
    static: Annotated[
        bool, typer.Option("--static", help="ONNX graphs of fixed sizes, which NPUs want, sharing weights.")
    ] = False,
    ort: Annotated[
        bool, typer.Option("--ort", help="ONNX graphs in ONNX Runtime's own format, for its small builds.")
    ] = False,
    opset: Annotated[
        int | None,
        typer.Option("--opset", metavar="N", help="Of ONNX, 23 to 25.  [default: the least that does]"),
    ] = None,
    minimum_deployment_target: Annotated[
        str, typer.Option("--minimum-deployment-target", metavar="NAME", help="Of Core ML: iOS17 or iOS18.")
    ] = "iOS18",
    image_input: Annotated[
        bool, typer.Option("--image-input", help="Core ML takes pictures as images instead of arrays.")
    ] = False,
    pictures: Annotated[
        int, typer.Option("--pictures", min=4, max=256, metavar="N", help="How many pictures are compared.")
    ] = 32,
    verify_with: Annotated[
        str | None,
        typer.Option(
            "--verify-with", metavar="tensorflow", help="Run TFLite under TensorFlow's interpreter too."
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            min=1,
            max=64,
            metavar="N",
            help="Components converted at once, up to 2 GiB each.  [default: one for each core]",
        ),
    ] = None,
    no_parity: Annotated[
        bool, typer.Option("--no-parity", help="Do not run what was written; nothing is proven.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be written and how large, and write nothing.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an output that exists.")] = False,
    as_json: AsJson = False,
) -> int:
    """Export a bundle for ONNX Runtime, TFLite or Core ML, and prove it equal (needs the export extra)."""
    from mmllm_cli.export_run import ExportRequest, run_exports

    return run_exports(
        ExportRequest(
            bundle=bundle,
            targets=tuple(target or ()),
            output=output,
            recipe=recipe,
            components=tuple(component or ()),
            static=static,
            ort=ort,
            opset=opset,
            deployment_target=minimum_deployment_target,
            image_input=image_input,
            pictures=pictures,
            verify_with=verify_with,
            jobs=jobs,
            parity=not no_parity,
            dry_run=dry_run,
            force=force,
            as_json=as_json,
        )
    )
