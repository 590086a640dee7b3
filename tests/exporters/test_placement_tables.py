"""The tables of what accelerators take: their sources, their holes, and that what they list exists."""

from __future__ import annotations

import datetime
import importlib.resources
import itertools
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from exporters.placement.graph_reader import read_graphs, runtime_of
from exporters.placement.hardware_tables import (
    FALLS_BACK,
    HARDWARE,
    ON_THE_ACCELERATOR,
    PLACES,
    UNKNOWN,
    HardwareTable,
    load_table,
    table_pairs,
)
from exporters.placement.predict import FOLDED, predict
from mobile_multimodal.errors import UsageError

MODELS = Path(__file__).parents[2] / "mobile_multimodal" / "models"
PACKAGED = sorted(MODELS.glob("*/onnx_*/*.onnx"))
TABLES = importlib.resources.files("exporters.placement") / "tables"


@pytest.mark.parametrize(("runtime", "hardware"), table_pairs())
def test_a_table_names_its_sources(runtime: str, hardware: str) -> None:
    found = load_table(runtime, hardware)
    assert (found.runtime, found.hardware) == (runtime, hardware)
    assert found.accelerator
    assert found.assumes.endswith(".")
    assert found.sources
    for source in found.sources:
        assert source.title
        assert source.address.startswith("https://")
        assert datetime.date(2020, 1, 1) < datetime.date.fromisoformat(source.date) <= datetime.date.today()
    for row in found.rows:
        assert row.ops == tuple(sorted(row.ops))
        assert row.placed == ON_THE_ACCELERATOR or row.note, f"{row.ops}: why?"
    if hardware == "nnapi":
        assert "deprecated in Android 15" in found.assumes


def test_the_tables_have_holes() -> None:
    pairs = table_pairs()
    assert {hardware for _, hardware in pairs} == set(HARDWARE)
    holes = set(itertools.product({runtime for runtime, _ in pairs}, HARDWARE)) - set(pairs)
    assert ("litert", "ane") in holes
    for runtime, hardware in holes:
        with pytest.raises(UsageError, match=f"{runtime} runs on {hardware}") as caught:
            load_table(runtime, hardware)
        assert all(f"{known} on {name}" in str(caught.value) for known, name in pairs)
    with pytest.raises(UsageError, match=r"unknown hardware 'tpu' .*hexagon, ane, nnapi, gpu, cpu"):
        load_table("litert", "tpu")


@pytest.mark.parametrize(
    ("before", "after", "error"),
    [
        ("unlisted =", "absent =", TypeError),
        ("max_rank = 4\n\n[[sources]]", "highest_rank = 4\n\n[[sources]]", TypeError),
        ("dated =", "when =", TypeError),
        ("activations =", "actives =", TypeError),
        ('dated = "read"', 'dated = "heard"', ValueError),
        ('unlisted = "falls back"', 'unlisted = "maybe"', ValueError),
        ('hardware = "gpu"', 'hardware = "tpu"', ValueError),
        ('placed = "unknown"', 'placed = "maybe"', ValueError),
        ('broadcast = "gpu delegate"', 'broadcast = "any"', ValueError),
        ('ops = ["CAST"]', 'ops = ["MUL"]', ValueError),
    ],
)
def test_a_table_with_an_unknown_key_or_word_is_refused(
    before: str, after: str, error: type[Exception]
) -> None:
    text = (TABLES / "litert_gpu.toml").read_text(encoding="utf-8")
    HardwareTable.from_toml(text)
    assert before in text
    with pytest.raises(error):
        HardwareTable.from_toml(text.replace(before, after))


def test_a_table_without_a_source_is_refused() -> None:
    with pytest.raises(ValueError, match="no source"):
        replace(load_table("litert", "gpu"), sources=())


def test_every_listed_onnx_operator_exists() -> None:
    from onnxruntime.capi import onnxruntime_pybind11_state as ort

    known = {(schema.domain, schema.name) for schema in ort.get_all_operator_schema()}
    known |= {(schema.domain, schema.name) for schema in onnx.defs.get_all_schemas_with_history()}
    listed = {
        op
        for runtime, hardware in table_pairs()
        for row in load_table(runtime, hardware).rows
        for op in row.ops
        if runtime == "onnxruntime"
    }
    missing = {op for op in listed if (op.rpartition(":")[0], op.rpartition(":")[2]) not in known}
    # The published list names this one without its domain, com.microsoft.
    assert missing == {"Inverse"}


def test_the_cpu_table_is_what_this_onnxruntime_registers() -> None:
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as ort

    found = load_table("onnxruntime", "cpu")
    if f"onnxruntime {onnxruntime.__version__}." not in found.assumes:
        pytest.skip(f"the table is of another version: {found.assumes}")
    kernels = {
        f"{kernel.domain}:{kernel.op_name}" if kernel.domain else kernel.op_name
        for kernel in ort.get_all_opkernel_def()
        if kernel.provider == "CPUExecutionProvider" and kernel.domain != "com.microsoft.nchwc"
    }
    assert {op for row in found.rows for op in row.ops} == kernels


@pytest.mark.parametrize("hardware", ["hexagon", "nnapi", "gpu", "cpu"])
def test_every_listed_tflite_operator_exists(hardware: str) -> None:
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    listed = {op for row in load_table("litert", hardware).rows for op in row.ops}
    assert {op for op in listed if not op.startswith("CUSTOM:")} <= vars(schema.BuiltinOperator).keys()


# The packaged artifacts.


def test_there_are_packaged_graphs() -> None:
    assert len(PACKAGED) == 8


@pytest.mark.parametrize("hardware", ["hexagon", "nnapi", "cpu"])
@pytest.mark.parametrize("path", PACKAGED, ids=lambda path: f"{path.parents[1].name}-{path.stem}")
def test_every_operator_of_a_packaged_artifact_is_placed(path: Path, hardware: str) -> None:
    [graph] = read_graphs(path)
    found = predict(graph, load_table(runtime_of(path), hardware))
    assert len(found.placements) == len(graph.operators) > 100
    assert {placement.where for placement in found.placements} <= {*PLACES, FOLDED}
    assert all(placement.reason for placement in found.placements)
    assert sum(row.count for row in found.reasons) == found.count(FALLS_BACK) + found.count(UNKNOWN)
    assert all(tensor.shape is not None for step in graph.operators for tensor in step.outputs)
    if hardware == "cpu":  # where the model runs every day
        assert (found.count(FALLS_BACK), found.count(UNKNOWN), found.partitions) == (0, 0, 1)
    else:
        # The batch has no fixed size.
        assert found.count(FALLS_BACK) > found.count(ON_THE_ACCELERATOR)


# Other formats.
