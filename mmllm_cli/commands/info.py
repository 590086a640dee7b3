"""``mmllm info``: what a model is made of."""

from __future__ import annotations

from typing import Annotated

import typer

from mmllm_cli.options import AsJson, BackendName

__all__ = ["info"]


def info(
    model: Annotated[
        str | None, typer.Argument(metavar="[NAME|DIR]", help="A packaged model or a directory.")
    ] = None,
    backend: BackendName = "onnxruntime",
    as_json: AsJson = False,
) -> int:
    """Show a model's recipe, components, sizes, hash, and what each runtime does with its weights."""
    from mmllm_cli.console import print_json
    from mmllm_cli.info_output import print_info
    from mmllm_cli.scheme_table import scheme_facts
    from mobile_multimodal.model import MobileMultiModalLLM

    opened = MobileMultiModalLLM(model, backend=backend)
    found = {**opened.get_model_info(), **scheme_facts(opened.bundle)}
    if as_json:
        print_json(found)
    else:
        print_info(found)
    return 0
