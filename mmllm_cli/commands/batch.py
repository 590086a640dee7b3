"""``mmllm batch``: captions, texts or answers of a whole data set, to one file."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from mmllm_cli.options import AsJson, BackendName, Beam, MaxTokens, MinConfidence, ModelName

__all__ = ["batch"]


def batch(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="A directory, a .txt of paths, a .jsonl or a .parquet file.")
    ],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="The file of the results.")],
    task: Annotated[
        str, typer.Option("--task", metavar="TASK,…", help="Any of caption, ocr, vqa, joined by commas.")
    ],
    question: Annotated[
        str | None,
        typer.Option(
            "--question",
            "-q",
            metavar="TEXT",
            help="For vqa: asked of every picture.  [default: the rows' own]",
        ),
    ] = None,
    image_column: Annotated[
        str | None,
        typer.Option(
            "--image-column", metavar="NAME", help="Where IN has the path or the bytes.  [default: image]"
        ),
    ] = None,
    written_as: Annotated[
        str | None,
        typer.Option("--format", metavar="NAME", help="jsonl or parquet.  [default: by OUT's suffix]"),
    ] = None,
    engine: Annotated[
        str, typer.Option("--engine", metavar="NAME", help="local, or dask (extra batch).")
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(
            "--address", metavar="HOST:PORT", help="For dask: a scheduler that runs.  [default: start one]"
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, max=1024, metavar="N", help="Processes.  [default: one a core]"),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with what an interrupted run left in OUT.partial.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT and OUT.partial.")] = False,
    model: ModelName = None,
    backend: BackendName = "onnxruntime",
    beam: Beam = 1,
    max_tokens: MaxTokens = 24,
    min_confidence: MinConfidence = None,
    as_json: AsJson = False,
) -> int:
    """Caption, read or ask a whole data set: one row a picture, in the data set's order."""
    from mmllm_cli.batch_run import BatchRequest, run_batch
    from mobile_multimodal.results import GenerationConfig

    words = [word for word in sys.argv[1:] if word not in ("--resume", "--force")]
    return run_batch(
        BatchRequest(
            source=source,
            output=output,
            tasks=tuple(dict.fromkeys(name.strip() for name in task.split(",") if name.strip())),
            question=question,
            engine=engine,
            address=address,
            workers=workers,
            model=model,
            backend=backend,
            written_as=written_as,
            image_column=image_column,
            generation=GenerationConfig(max_tokens=max_tokens, num_beams=beam),
            min_confidence=min_confidence,
            resume=resume,
            force=force,
            as_json=as_json,
            again=shlex.join(["mmllm", *words, "--resume"]),
        )
    )
