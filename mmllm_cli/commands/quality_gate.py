"""``mmllm quality-gate``: may this model ship? Checks against limits, and one exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmllm_cli.options import AsJson

__all__ = ["quality_gate"]


def quality_gate(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME|DIR]",
            help="A packaged model, or the directory of a bundle or artifact.  [default: mmllm-base]",
        ),
    ] = None,
    gates: Annotated[
        Path | None,
        typer.Option("--gates", metavar="FILE.toml", help="Your own limits.  [default: the packaged gate]"),
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="OUT.json", help="Write the result as JSON.")
    ] = None,
    service: Annotated[
        str | None,
        typer.Option("--service", metavar="URL", help="Load a running service too, for 20 s."),
    ] = None,
    eval_data: Annotated[
        Path | None,
        typer.Option(
            "--eval-data",
            metavar="DIR",
            help="Check CIDEr-D and VQA accuracy on captions_val.jsonl and vqa_val.jsonl too.",
        ),
    ] = None,
    junit: Annotated[
        Path | None, typer.Option("--junit", metavar="OUT.xml", help="Write the result for CI viewers.")
    ] = None,
    github: Annotated[
        bool, typer.Option("--github", help="Print GitHub annotations for checks that do not pass.")
    ] = False,
    list_metrics: Annotated[bool, typer.Option("--list", help="Print every metric with its unit.")] = False,
    init: Annotated[
        Path | None,
        typer.Option("--init", metavar="FILE.toml", help="Write a gates file with comments, to be changed."),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Check a model against limits: exit 0 all pass, 4 any fails, 5 any is inconclusive."""
    from mobile_multimodal.errors import UsageError

    if list_metrics or init is not None:
        others = (model, gates, report, service, eval_data, junit)
        if any(option is not None for option in others) or github or (list_metrics and init is not None):
            name = "--list" if list_metrics else "--init"
            raise UsageError(f"{name} runs no gate", remedy="leave the other options out")
    from mmllm_cli import quality_gate_run

    if list_metrics:
        return quality_gate_run.list_metrics(as_json=as_json)
    if init is not None:
        return quality_gate_run.write_gates_file(init, as_json=as_json)
    return quality_gate_run.run_quality_gate(
        quality_gate_run.GateRequest(
            model=model,
            gates=gates,
            report=report,
            junit=junit,
            service=service,
            eval_data=eval_data,
            github=github,
            as_json=as_json,
        )
    )
