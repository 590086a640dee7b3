"""``mmllm compare``: two benchmark reports, metric by metric."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmllm_cli.options import AsJson

__all__ = ["compare"]


def compare(
    before: Annotated[Path, typer.Argument(metavar="A.json", help="A report of mmllm benchmark.")],
    after: Annotated[Path, typer.Argument(metavar="B.json", help="The report that is held against it.")],
    fail_above: Annotated[
        float | None,
        typer.Option(
            "--fail-above",
            min=0.0,
            metavar="PCT",
            help="Exit 4 where a latency is slower by more than this, its whole interval included.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Say what is faster, slower, or not shown to differ, with 95 % intervals."""
    from benchmarks.compare import compare_reports, pair_reports
    from benchmarks.report import load_report
    from mmllm_cli.compare_output import check_slower, print_comparison, warn_of_differences
    from mmllm_cli.console import print_error, print_json
    from mmllm_cli.errors_to_exit import error_row
    from mobile_multimodal.errors import GateFailedError

    pairs = pair_reports(load_report(before), load_report(after))
    changes = [compare_reports(old, new) for old, new in pairs]
    warn_of_differences(changes)
    document = {"comparisons": [change.to_json() for change in changes]}
    if not as_json:
        print_comparison(changes)
        check_slower(changes, fail_above)
        return 0
    try:
        check_slower(changes, fail_above)
    except GateFailedError as exc:
        # One document says both what was found and that it is too slow.
        print_json({**document, "error": error_row(exc)})
        print_error(str(exc))
        return exc.exit_code
    print_json(document)
    return 0
