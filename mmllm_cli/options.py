"""The options that several commands share, declared once."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = [
    "IMAGES_HELP",
    "AsJson",
    "BackendName",
    "BatchSize",
    "Beam",
    "Images",
    "MaxTokens",
    "MinConfidence",
    "ModelName",
    "Recursive",
    "Threads",
    "UrlTimeout",
]

IMAGES_HELP = "Files, directories, http(s) URLs, or - for standard input."

Images = Annotated[list[str], typer.Argument(metavar="IMAGE", help=IMAGES_HELP)]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model", metavar="NAME|DIR", help="A packaged model or a directory.  [default: mmllm-base]"
    ),
]
BackendName = Annotated[
    str, typer.Option("--backend", metavar="NAME", help="onnxruntime, or torch (needs the export extra).")
]
Threads = Annotated[
    int | None,
    typer.Option("--threads", min=1, metavar="N", help="CPU threads.  [default: the runtime's choice]"),
]
Beam = Annotated[int, typer.Option("--beam", metavar="N", help="Beam width, 1 to 8; 1 is greedy.")]
MaxTokens = Annotated[int, typer.Option("--max-tokens", metavar="N", help="Longest text, 1 to 64 tokens.")]
MinConfidence = Annotated[
    float,
    typer.Option(
        "--min-confidence", min=0.0, max=1.0, metavar="0..1", help="Say 'not sure' below this confidence."
    ),
]
BatchSize = Annotated[
    int, typer.Option("--batch-size", min=1, max=256, metavar="N", help="Pictures read and decoded together.")
]
Recursive = Annotated[
    bool, typer.Option("--recursive", "-r", help="Look into the folders of directories too.")
]
UrlTimeout = Annotated[
    float, typer.Option("--url-timeout", min=0.1, metavar="SECONDS", help="Longest wait for a URL, in all.")
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON document; for several pictures one line each.")
]
