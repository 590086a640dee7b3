"""``mmllm vqa``: the answer to a question about each picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated

import typer

from mmllm_cli.options import IMAGES_HELP, RunSettings, with_run_settings

__all__ = ["vqa"]


@with_run_settings()
def vqa(
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE", help=IMAGES_HELP, default_factory=list, show_default=False)
    ],
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="The question, in quotes.")],
    settings: RunSettings,
) -> int:
    """Answer a question about each picture; the question comes last."""
    from mmllm_cli.run_pictures import run_pictures
    from mobile_multimodal.results import TaskRequest

    _check_order(images, question)
    return run_pictures(images, [TaskRequest("vqa", question)], settings)


def _check_order(images: Sequence[str], question: str) -> None:
    from mmllm_cli.fetch import is_url
    from mobile_multimodal.errors import UsageError
    from mobile_multimodal.image import IMAGE_SUFFIXES

    usage = 'mmllm vqa IMAGE... "what is on the table?"'
    if not images:
        raise UsageError(
            f"a picture and a question are needed, only {question[:80]!r} is given", remedy=usage
        )
    is_picture = question == "-" or is_url(question) or (len(question) < 4096 and os.path.exists(question))
    # One that is not there, but is named like one: its answer would be a guess about nothing.
    is_missing = " " not in question.strip() and question.strip().lower().endswith(IMAGE_SUFFIXES)
    if is_picture or is_missing:
        raise UsageError(f"the last argument must be the question, not a picture: {question!r}", remedy=usage)
