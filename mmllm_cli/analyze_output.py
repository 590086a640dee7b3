"""What ``mmllm analyze`` finds, as plain values, and as tables for people."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from exporters.placement.graph_reader import FORMATS, read_graphs, runtime_of
from exporters.placement.hardware_tables import (
    FALLS_BACK,
    HARDWARE,
    ON_THE_ACCELERATOR,
    UNKNOWN,
    HardwareTable,
    load_table,
)
from exporters.placement.predict import FOLDED, Prediction, predict
from mmllm_cli.console import print_text
from mmllm_cli.tables import aligned
from mobile_multimodal.bundle import find_model
from mobile_multimodal.errors import GateFailedError, InconclusiveError, UsageError
from mobile_multimodal.manifest import Manifest

__all__ = ["analysis_lines", "analysis_row", "check_delegation", "exported_files", "print_analysis"]


def analysis_row(
    artifact: str, hardware: str, component: str | None = None, *, operators: bool = False
) -> dict[str, Any]:
    """What is predicted of an artifact, as plain values; ``operators`` adds a row for each of them.

    Raises:
        UsageError: unknown hardware, a pair without a table, a bundle, or a component that is not there.
        BundleError: a file that cannot be read, or was changed.
        MissingExtraError: the package that reads the format is not installed.
    """
    if hardware not in HARDWARE:
        raise UsageError(f"unknown hardware {hardware!r}", remedy=f"one of {', '.join(HARDWARE)}")
    files = exported_files(artifact)
    if component is not None and component not in files:
        raise UsageError(f"{artifact} has no component {component!r}", remedy=f"one of {', '.join(files)}")
    chosen = files if component is None else {component: files[component]}
    table = load_table(runtime_of(next(iter(chosen.values()))[0]), hardware)
    graphs = [
        # Of several files each is called by its graph; what the converter calls a single one says nothing.
        _graph_row(name, path.stem if len(paths) > 1 else graph.name, predict(graph, table), operators)
        for name, paths in chosen.items()
        for path in paths
        for graph in read_graphs(path)
    ]
    return {"status": "predicted", "artifact": artifact, **_table_row(table), "graphs": graphs}


def exported_files(artifact: str) -> dict[str, tuple[Path, ...]]:
    """Component names → graph files of an artifact's directory or a packaged model; of one file, its own.

    Raises:
        UsageError: a bundle, which has no graphs yet, or none of these.
        BundleError: a directory without a manifest, or a file that was changed.
    """
    path = Path(artifact)
    if path.suffix in FORMATS or os.path.isfile(path):
        runtime_of(path)
        return {path.stem: (path,)}
    directory = find_model(artifact, "onnxruntime")
    manifest = Manifest.read(directory)
    if manifest.kind != "artifact":
        raise UsageError(f"{artifact} is a {manifest.kind}, which holds no graphs", remedy="export it first")
    manifest.verify(directory)
    return {component.name: _exported(directory, component.weights) for component in manifest.components}


def _exported(directory: Path, weights: str) -> tuple[Path, ...]:
    """The file or package of a component, or the files of the folder that holds its graphs of fixed sizes."""
    path = directory / weights
    if path.suffix in FORMATS or path.is_file():
        runtime_of(path)
        return (path,)
    return tuple(sorted(file for file in path.iterdir() if file.suffix in FORMATS))


def check_delegation(row: Mapping[str, Any]) -> None:
    """Refuse an analysis in which not every operator runs on the accelerator.

    Raises:
        GateFailedError: an operator falls back.
        InconclusiveError: none does, but of some nothing is known.
    """
    total, back, unknown = (
        sum(graph[key] for graph in row["graphs"]) for key in ("operators", "falls_back", "unknown")
    )
    where = f"the {row['accelerator']}"
    if back:
        raise GateFailedError(f"{back:,} of {total:,} operators are predicted to fall back from {where}")
    if unknown:
        raise InconclusiveError(f"of {unknown:,} of {total:,} operators it is not known if {where} runs them")


def print_analysis(row: Mapping[str, Any]) -> None:
    """Print an analysis for people."""
    for line in analysis_lines(row):
        print_text(line)


def analysis_lines(row: Mapping[str, Any]) -> Iterator[str]:
    """Where the prediction comes from, a line a graph, and why operators are not on the accelerator."""
    yield f"predicted, not measured: {row['accelerator']} ({row['runtime']} on {row['hardware']})"
    yield f"assumes: {row['assumes']}"
    for source in row["sources"]:
        yield f"source: {source['title']}, {source['dated']} {source['date']}, {source['address']}"
    yield ""
    graphs = row["graphs"]
    yield from aligned([_HEAD, *([_cell(graph[key]) for key in _KEYS] for graph in graphs)])
    if any(graph["sizes_vary"] for graph in graphs):
        yield "sizes vary: each counts as 1 in the KiB"
    if any(graph["unknown"] for graph in graphs):
        yield "unknown operators count as a place of their own in the partitions and the KiB"
    if reasons := _reasons(graphs):
        yield ""
        yield from aligned([["operator", "count", "predicted", "components", "reason"], *reasons])
    for graph in graphs:
        if "operator_list" in graph:
            yield from ("", f"{graph['component']} {graph['graph']}")
            yield from aligned(
                [["", "operator", "writes", "predicted", "reason"], *map(_operator, graph["operator_list"])]
            )


_HEAD = (
    "component",
    "graph",
    "operators",
    ON_THE_ACCELERATOR,
    FALLS_BACK,
    UNKNOWN,
    "partitions",
    "KiB crossing per inference",
)
_KEYS = (
    "component",
    "graph",
    "operators",
    "on_the_accelerator",
    "falls_back",
    "unknown",
    "partitions",
    "crossing_kib",
)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _reasons(graphs: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A line for each operator type and reason, over all graphs, the most frequent first."""
    counts: Counter[tuple[str, str, str]] = Counter()
    components: dict[tuple[str, str, str], dict[str, None]] = {}
    for graph in graphs:
        for found in graph["not_on_the_accelerator"]:
            key = (found["op"], found["predicted"], found["reason"])
            counts[key] += found["count"]
            components.setdefault(key, {})[graph["component"]] = None
    return [
        [op, f"{count:,}", where, ", ".join(components[op, where, reason]), reason]
        for (op, where, reason), count in counts.most_common()
    ]


def _operator(row: Mapping[str, Any]) -> Sequence[str]:
    shape = "?" if row["shape"] is None else "×".join(map(str, row["shape"])) or "scalar"
    return (f"{row['index']}", row["op"], f"{row['dtype']} {shape}", row["predicted"], row["reason"])


def _table_row(table: HardwareTable) -> dict[str, Any]:
    return {
        "runtime": table.runtime,
        "hardware": table.hardware,
        "accelerator": table.accelerator,
        "assumes": table.assumes,
        "sources": [vars(source) for source in table.sources],
    }


def _graph_row(component: str, graph: str, prediction: Prediction, operators: bool) -> dict[str, Any]:
    folded = prediction.count(FOLDED)
    row = {
        "component": component,
        "graph": graph,
        "operators": len(prediction.placements) - folded,
        "on_the_accelerator": prediction.count(ON_THE_ACCELERATOR),
        "falls_back": prediction.count(FALLS_BACK),
        "unknown": prediction.count(UNKNOWN),
        "on_constants": folded,
        "partitions": prediction.partitions,
        "crossing_kib": prediction.crossing_bytes / 1024,
        "sizes_vary": prediction.sizes_vary,
        "not_on_the_accelerator": [
            {"op": reason.op, "count": reason.count, "predicted": reason.where, "reason": reason.reason}
            for reason in prediction.reasons
        ],
    }
    return row | ({"operator_list": _operator_rows(prediction)} if operators else {})


def _operator_rows(prediction: Prediction) -> list[dict[str, Any]]:
    return [
        {
            "index": index,
            "name": placement.operator.name,
            "op": placement.operator.op,
            "dtype": placement.operator.outputs[0].dtype if placement.operator.outputs else "unknown",
            "shape": placement.operator.outputs[0].shape if placement.operator.outputs else None,
            "weights": placement.operator.weights,
            "predicted": placement.where,
            "reason": placement.reason,
        }
        for index, placement in enumerate(prediction.placements)
    ]
