"""``mmllm eval``: how well a model does a task on a data file, or on pictures drawn here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmllm_cli.options import AsJson, BackendName, Beam, MaxTokens, ModelName, Threads

__all__ = ["evaluate"]


def evaluate(
    task: Annotated[
        str,
        typer.Option("--task", metavar="TASK", help="caption, vqa, ocr; pages or non-photos, drawn here."),
    ],
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="FILE", help="A .jsonl file; for ocr also a folder or a .tar."),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option("--images", metavar="DIR", help="Where the pictures are.  [default: beside the data]"),
    ] = None,
    train_data: Annotated[
        Path | None,
        typer.Option("--train-data", metavar="FILE", help="For vqa: count the most common answers here."),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            min=1,
            metavar="N",
            help="At most N rows; N pictures.  [default: all; 60 pages, 20 non-photos]",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed", min=0, metavar="N", help="For pages and non-photos: what is drawn.  [default: 0]"
        ),
    ] = None,
    engines: Annotated[
        str | None,
        typer.Option("--engines", metavar="NAME,…", help="For pages.  [default: model,tesseract]"),
    ] = None,
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
    from mmllm_cli.console import print_json, progress
    from mmllm_cli.evaluation import EvaluationSettings, run_evaluation
    from mmllm_cli.evaluation_output import print_figures, write_report
    from mmllm_cli.output_files import check_can_write
    from mobile_multimodal.results import GenerationConfig

    generation = GenerationConfig(max_tokens=max_tokens, num_beams=beam)
    settings = EvaluationSettings(
        task=task,
        data=data,
        images=images,
        train_data=train_data,
        limit=limit,
        seed=seed,
        engines=None if engines is None else _names(engines),
        model=model,
        backend=backend,
        threads=threads,
        generation=generation,
    )
    if report is not None:
        check_can_write(report)
    with progress(f"eval {task}") as bar:
        result = run_evaluation(settings, bar.show)
    if report is not None:
        write_report(result, report)
    if as_json:
        print_json(result.to_json())
    else:
        print_figures(result)
    return 0


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
