"""``mmllm run``: several tasks on each picture, which is encoded once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from mmllm_cli.options import Images, RunSettings, with_run_settings

__all__ = ["run"]


@with_run_settings()
def run(
    images: Images,
    task: Annotated[
        str, typer.Option("--task", metavar="TASK,…", help="Any of caption, ocr, vqa, joined by commas.")
    ] = "caption,ocr",
    question: Annotated[
        list[str] | None,
        typer.Option("--question", "-q", metavar="TEXT", help="For vqa; may be given several times."),
    ] = None,
    *,
    settings: RunSettings,
) -> int:
    """Run several tasks on each picture at once."""
    from mmllm_cli.run_pictures import run_pictures
    from mobile_multimodal.errors import UsageError
    from mobile_multimodal.results import TaskRequest

    tasks = list(dict.fromkeys(name.strip() for name in task.split(",") if name.strip()))
    if not tasks:
        raise UsageError("no task is given", remedy="--task caption,ocr,vqa")
    if question and "vqa" not in tasks:
        raise UsageError("a question is given, but --task does not name vqa", remedy="--task vqa")
    questions: Sequence[str | None] = question or [None]
    requests = [
        TaskRequest(name, text) for name in tasks for text in (questions if name == "vqa" else [None])
    ]
    return run_pictures(images, requests, settings)
