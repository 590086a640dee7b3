"""``mmllm vqa``: the answer to a question about each picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated

import typer

from mmllm_cli.options import (
    IMAGES_HELP,
    AsJson,
    BackendName,
    BatchSize,
    Beam,
    MaxTokens,
    MinConfidence,
    ModelName,
    Recursive,
    Threads,
    UrlTimeout,
)

__all__ = ["vqa"]


def vqa(
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE", help=IMAGES_HELP, default_factory=list, show_default=False)
    ],
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="The question, in quotes.")],
    model: ModelName = None,
    backend: BackendName = "onnxruntime",
    threads: Threads = None,
    beam: Beam = 1,
    max_tokens: MaxTokens = 24,
    min_confidence: MinConfidence = 0.0,
    batch_size: BatchSize = 8,
    recursive: Recursive = False,
    url_timeout: UrlTimeout = 60.0,
    as_json: AsJson = False,
) -> int:
    """Answer a question about each picture; the question comes last."""
    from mmllm_cli.run_pictures import RunSettings, run_pictures
    from mobile_multimodal.results import TaskRequest

    _check_order(images, question)
    settings = RunSettings(
        model=model,
        backend=backend,
        threads=threads,
        beam=beam,
        max_tokens=max_tokens,
        min_confidence=min_confidence,
        batch_size=batch_size,
        recursive=recursive,
        url_timeout_s=url_timeout,
        as_json=as_json,
    )
    return run_pictures(images, [TaskRequest("vqa", question)], settings)


def _check_order(images: Sequence[str], question: str) -> None:
    from mmllm_cli.fetch import is_url
    from mobile_multimodal.errors import UsageError

    usage = 'mmllm vqa IMAGE... "what is on the table?"'
    if not images:
        raise UsageError(
            f"a picture and a question are needed, only {question[:80]!r} is given", remedy=usage
        )
    is_picture = question == "-" or is_url(question) or (len(question) < 4096 and os.path.exists(question))
    if is_picture:
        raise UsageError(f"the last argument must be the question, not a picture: {question!r}", remedy=usage)
