"""``mmllm analyze``: which operators of an artifact an accelerator is predicted to run."""

from __future__ import annotations

from typing import Annotated

import typer

from mmllm_cli.options import AsJson

__all__ = ["analyze"]


def analyze(
    artifact: Annotated[
        str,
        typer.Argument(
            metavar="ARTIFACT", help="An artifact's directory, a packaged model, or one exported file."
        ),
    ],
    hardware: Annotated[
        str, typer.Option("--hardware", metavar="NAME", help="hexagon, ane, nnapi, gpu or cpu.")
    ],
    component: Annotated[
        str | None, typer.Option("--component", metavar="NAME", help="This component alone.")
    ] = None,
    operators: Annotated[bool, typer.Option("--operators", help="One line for every operator too.")] = False,
    require_full_delegation: Annotated[
        bool,
        typer.Option(
            "--require-full-delegation",
            help="Exit 4 where an operator falls back, 5 where none does but some are unknown.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Predict from published lists, without a device, which operators an accelerator runs."""
    from mmllm_cli.analyze_output import analysis_row, check_delegation, print_analysis
    from mmllm_cli.console import print_error, print_json
    from mmllm_cli.errors_to_exit import error_row
    from mobile_multimodal.errors import GateFailedError, InconclusiveError

    row = analysis_row(artifact, hardware, component, operators=operators)
    if not as_json:
        print_analysis(row)
        if require_full_delegation:
            check_delegation(row)
        return 0
    try:
        if require_full_delegation:
            check_delegation(row)
    except (GateFailedError, InconclusiveError) as exc:
        # One document says both what was found and that it is not enough.
        print_json({**row, "error": error_row(exc)})
        print_error(str(exc))
        return exc.exit_code
    print_json(row)
    return 0
