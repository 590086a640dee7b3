"""The options that several commands share, declared once."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

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
    "RunSettings",
    "Threads",
    "UrlTimeout",
    "with_run_settings",
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
    str,
    typer.Option(
        "--backend", metavar="NAME", help="onnxruntime, litert, coreml, or torch (extras litert, export)."
    ),
]
Threads = Annotated[
    int | None,
    # More threads than any machine has cores only exhaust it: 100,000 never come to an end.
    typer.Option(
        "--threads", min=1, max=256, metavar="N", help="CPU threads.  [default: the runtime's choice]"
    ),
]
Beam = Annotated[int, typer.Option("--beam", metavar="N", help="Beam width, 1 to 8; 1 is greedy.")]
MaxTokens = Annotated[int, typer.Option("--max-tokens", metavar="N", help="Longest text, 1 to 64 tokens.")]
MinConfidence = Annotated[
    float | None,
    typer.Option(
        "--min-confidence",
        min=0.0,
        max=1.0,
        metavar="0..1",
        help="Say 'not sure' below this confidence; 0 never does.  [default: the model's own]",
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


@dataclass(frozen=True)
class RunSettings:
    """The options of caption, ocr, vqa and run, as the command line gave them."""

    model: ModelName = None
    backend: BackendName = "onnxruntime"
    threads: Threads = None
    beam: Beam = 1
    max_tokens: MaxTokens = 24
    min_confidence: MinConfidence = None
    batch_size: BatchSize = 8
    recursive: Recursive = False
    url_timeout_s: UrlTimeout = 60.0
    as_json: AsJson = False


def with_run_settings(*, without: tuple[str, ...] = ()) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Give a command every option of :class:`RunSettings`, which it is handed as ``settings``.

    ``without`` names the fields that are no option of this command; they keep their defaults.
    """
    hints = typing.get_type_hints(RunSettings, include_extras=True)
    shared = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in dataclasses.fields(RunSettings)
        if field.name not in without
    ]

    def decorate(command: Callable[..., int]) -> Callable[..., int]:
        own = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for name, parameter in inspect.signature(command, eval_str=True).parameters.items()
            if name != "settings"
        ]

        @functools.wraps(command)
        def with_options(**options: Any) -> int:
            settings = RunSettings(**{option.name: options.pop(option.name) for option in shared})
            return command(**options, settings=settings)

        # What typer reads: the signature and the annotations as if they had been written out.
        parameters = [*own, *shared]
        with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return with_options

    return decorate
