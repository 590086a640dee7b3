"""``mmllm ocr``: the text of each picture, line by line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmllm_cli.options import (
    AsJson,
    BackendName,
    BatchSize,
    Images,
    MinConfidence,
    ModelName,
    Recursive,
    Threads,
    UrlTimeout,
)

__all__ = ["ocr"]


def ocr(
    images: Images,
    output_format: Annotated[
        str, typer.Option("--format", "-f", metavar="text|json|tsv|hocr", help="How the lines are printed.")
    ] = "text",
    annotate: Annotated[
        Path | None,
        typer.Option("--annotate", metavar="OUT.png", help="Also draw boxes and text (one picture only)."),
    ] = None,
    model: ModelName = None,
    backend: BackendName = "onnxruntime",
    threads: Threads = None,
    min_confidence: MinConfidence = 0.0,
    batch_size: BatchSize = 8,
    recursive: Recursive = False,
    url_timeout: UrlTimeout = 60.0,
    as_json: AsJson = False,
) -> int:
    """Read the text of each picture, in reading order."""
    from mmllm_cli.ocr_output import ocr_printer
    from mmllm_cli.run_pictures import RunSettings, run_pictures
    from mobile_multimodal.results import TaskRequest

    if as_json and output_format == "text":
        output_format = "json"
    printer = ocr_printer(output_format, annotate, images, recursive=recursive, as_json=as_json)
    settings = RunSettings(
        model=model,
        backend=backend,
        threads=threads,
        min_confidence=min_confidence,
        batch_size=batch_size,
        recursive=recursive,
        url_timeout_s=url_timeout,
        as_json=output_format == "json",
    )
    return run_pictures(images, [TaskRequest("ocr")], settings, printer=printer)
