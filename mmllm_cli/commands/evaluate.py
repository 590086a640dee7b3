"""``mmllm eval``: how well a model does a task on a data file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmllm_cli.options import AsJson, BackendName, Beam, MaxTokens, ModelName, Threads

__all__ = ["evaluate"]


def evaluate(
    data: Annotated[
        Path, typer.Option("--data", metavar="FILE", help="A .jsonl file; for ocr also a folder or a .tar.")
    ],
    task: Annotated[str, typer.Option("--task", metavar="TASK", help="caption, vqa or ocr.")],
    images: Annotated[
        Path | None,
        typer.Option("--images", metavar="DIR", help="Where the pictures are.  [default: beside the data]"),
    ] = None,
    train_data: Annotated[
        Path | None,
        typer.Option("--train-data", metavar="FILE", help="For vqa: count the most common answers here."),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, metavar="N", help="At most N rows.")] = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="OUT.json", help="Write the figures and every output here."),
    ] = None,
    model: ModelName = None,
    backend: BackendName = "onnxruntime",
    threads: Threads = None,
    beam: Beam = 1,
    max_tokens: MaxTokens = 24,
    as_json: AsJson = False,
) -> int:
    """Measure a task on your own data, with 95 % intervals."""
    from benchmarks.evaluate import evaluate as run_evaluation
    from mmllm_cli.console import print_json, progress
    from mmllm_cli.evaluation_output import print_figures, write_report
    from mmllm_cli.output_files import check_can_write
    from mobile_multimodal.model import MobileMultiModalLLM
    from mobile_multimodal.results import GenerationConfig

    if report is not None:
        check_can_write(report)
    generation = GenerationConfig(max_tokens=max_tokens, num_beams=beam)
    opened = MobileMultiModalLLM(model, backend=backend, threads=threads)
    with progress(f"eval {task}") as bar:
        result = run_evaluation(
            opened,
            data,
            task,
            images=images,
            train_data=train_data,
            limit=limit,
            generation=generation,
            progress=bar.show,
        )
    if report is not None:
        write_report(result, report)
    if as_json:
        print_json(result.to_json())
    else:
        print_figures(result)
    return 0
