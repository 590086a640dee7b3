"""``mmllm ocr``: the text of each picture, line by line."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from mmllm_cli.options import Images, RunSettings, with_run_settings

__all__ = ["ocr"]


@with_run_settings(without=("beam", "max_tokens"))
def ocr(
    images: Images,
    output_format: Annotated[
        str, typer.Option("--format", "-f", metavar="text|json|tsv|hocr", help="How the lines are printed.")
    ] = "text",
    annotate: Annotated[
        Path | None,
        typer.Option("--annotate", metavar="OUT.png", help="Also draw boxes and text (one picture only)."),
    ] = None,
    *,
    settings: RunSettings,
) -> int:
    """Read the text of each picture, in reading order."""
    from mmllm_cli.ocr_output import ocr_printer
    from mmllm_cli.run_pictures import run_pictures
    from mobile_multimodal.results import TaskRequest

    if settings.as_json and output_format == "text":
        output_format = "json"
    printer = ocr_printer(
        output_format, annotate, images, recursive=settings.recursive, as_json=settings.as_json
    )
    settings = dataclasses.replace(settings, as_json=output_format == "json")
    return run_pictures(images, [TaskRequest("ocr")], settings, printer=printer)
