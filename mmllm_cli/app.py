"""The command table and the entry point."""

from __future__ import annotations

import os
import sys
from typing import Annotated, NoReturn

import typer

from mmllm_cli.commands import (
    analyze,
    batch,
    benchmark,
    caption,
    compare,
    doctor,
    evaluate,
    export,
    info,
    keys,
    ocr,
    quality_gate,
    quantize,
    run,
    serve,
    vqa,
)
from mmllm_cli.errors_to_exit import run_app

__all__ = ["app", "main"]

# Plain help instead of rich's: rich alone takes longer to import than all the rest of --help.
app = typer.Typer(
    name="mmllm",
    help="Caption pictures, read their text and answer questions about them, on this device.",
    epilog="Exit codes: 0 ok, 1 crash, 2 usage, 3 known error (a bad picture, a corrupt model), "
    "4 gate or parity failed, 5 inconclusive, 130 interrupted.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    suggest_commands=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("caption")(caption.caption)
app.command("ocr")(ocr.ocr)
app.command("vqa")(vqa.vqa)
app.command("run")(run.run)
app.command("batch")(batch.batch)
app.command("quantize")(quantize.quantize)
app.command("export")(export.export)
app.command("analyze")(analyze.analyze)
app.command("eval")(evaluate.evaluate)
app.command("benchmark")(benchmark.benchmark)
app.command("compare")(compare.compare)
app.command("quality-gate")(quality_gate.quality_gate)
app.add_typer(keys.keys, name="keys")
app.command("serve")(serve.serve)
app.command("info")(info.info)
app.command("doctor")(doctor.doctor)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"mmllm {version('mmllm')}")
        raise typer.Exit


@app.callback()
def _common(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error (or set MMLLM_DEBUG=1).")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    if debug:
        os.environ["MMLLM_DEBUG"] = "1"


def main() -> NoReturn:
    """Run the command line and exit with the code that its result deserves."""
    sys.exit(run_app(app, sys.argv[1:]))
