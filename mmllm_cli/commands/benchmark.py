"""``mmllm benchmark``: how fast models are here, with percentiles that the samples state."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmllm_cli.options import AsJson

__all__ = ["benchmark"]


def benchmark(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME|DIR]...", help="Packaged models and directories.  [default: mmllm-base]"
        ),
    ] = None,
    scenario: Annotated[
        str,
        typer.Option("--scenario", metavar="NAME", help="single-stream, multi-stream, offline or server."),
    ] = "single-stream",
    backend: Annotated[
        list[str] | None,
        typer.Option(
            "--backend",
            metavar="NAME",
            help="What runs packaged models: onnxruntime, torch (repeatable).  [default: onnxruntime]",
        ),
    ] = None,
    num_runs: Annotated[
        int | None,
        typer.Option(
            "--num-runs",
            metavar="N",
            help="Samples of each model; p95 needs 130, p99 662.  [default: 150; offline 130, server 662]",
        ),
    ] = None,
    warmup: Annotated[int, typer.Option("--warmup", metavar="N", help="Runs before, not counted.")] = 5,
    min_secs: Annotated[
        float, typer.Option("--min-secs", metavar="SECONDS", help="Go on at least so long.")
    ] = 0.0,
    max_secs: Annotated[
        float,
        typer.Option("--max-secs", metavar="SECONDS", help="Stop each part after so long for each model."),
    ] = 60.0,
    threads: Annotated[
        int, typer.Option("--threads", min=1, max=256, metavar="N", help="CPU threads of each model.")
    ] = 1,
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size",
            metavar="N",
            help="Pictures captioned together.  [default: multi-stream and offline 8, server 1]",
        ),
    ] = None,
    qps: Annotated[
        float | None,
        typer.Option(
            "--qps", metavar="N", help="Server: arrivals a second.  [default: look for the highest rate]"
        ),
    ] = None,
    max_latency_ms: Annotated[
        float | None,
        typer.Option(
            "--max-latency-ms",
            metavar="MS",
            help="Server: bound of p99, waiting included.  [default: 200]",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Server: of the arrivals.")] = 0,
    sustained: Annotated[
        float,
        typer.Option(
            "--sustained",
            metavar="SECONDS",
            help="Then caption so long without a pause: the last minute against the first.",
        ),
    ] = 0.0,
    cold_runs: Annotated[
        int,
        typer.Option(
            "--cold-runs", metavar="N", help="Processes that load and caption once; 0 measures no memory."
        ),
    ] = 11,
    ocr_runs: Annotated[
        int, typer.Option("--ocr-runs", metavar="N", help="Pages to read in single-stream; 0 reads none.")
    ] = 20,
    roofline: Annotated[
        bool,
        typer.Option(
            "--roofline/--no-roofline", help="Single-stream: how near to this machine's best, measured now."
        ),
    ] = True,
    image: Annotated[
        Path | None,
        typer.Option("--image", metavar="FILE", help="What is captioned.  [default: a photo of 320x240]"),
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option("--page", metavar="FILE", help="What is read.  [default: a page drawn here]"),
    ] = None,
    op_tracing: Annotated[
        bool, typer.Option("--op-tracing", help="Also the ten operators that cost most.")
    ] = False,
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            metavar="adb[:SERIAL]|list",
            help="Run artifacts for TFLite on a phone instead; list names those attached.",
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", metavar="NAME", help="Show only this latency (repeatable).  [default: all]"),
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table in Markdown.")] = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot", metavar="FILE.png", help="Draw the latencies: histogram and cumulative share."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE.json", help="Write the report, every sample included."),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Measure latency, throughput and memory of models on this machine, in turns."""
    from benchmarks.benchmark_config import BenchmarkConfig
    from mmllm_cli.benchmark_run import BenchmarkRequest, run_benchmarks
    from mobile_multimodal.errors import UsageError

    config = BenchmarkConfig(
        scenario=scenario,
        num_runs=num_runs,
        warmup=warmup,
        min_secs=min_secs,
        max_secs=max_secs,
        threads=threads,
        seed=seed,
        qps=qps,
        max_latency_ms=max_latency_ms,
        batch_size=batch_size,
        sustained_secs=sustained,
        cold_runs=cold_runs,
        ocr_runs=ocr_runs,
        roofline=roofline,
    )
    if device is not None:
        others: dict[str, object] = {
            "--image": image,
            "--page": page,
            "--plot": plot,
            "--backend": backend,
            "--metric": metric,
            "--op-tracing": op_tracing,
            "--markdown": markdown,
        }
        if given := [name for name, value in others.items() if value]:
            raise UsageError(f"{given[0]} does not go with --device", remedy=f"leave {given[0]} out")
        from mmllm_cli.benchmark_device import LIST, list_devices, run_on_device

        if device == LIST:
            return list_devices(as_json=as_json)
        return run_on_device(device, models or (), config, output, as_json=as_json)
    return run_benchmarks(
        BenchmarkRequest(
            models=tuple(models or ()),
            backends=tuple(backend or ()),
            config=config,
            image=image,
            page=page,
            op_tracing=op_tracing,
            metrics=tuple(metric or ()),
            markdown=markdown,
            plot=plot,
            output=output,
            as_json=as_json,
        )
    )
