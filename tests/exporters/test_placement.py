"""Graphs read from files, operators placed by tables, and the tables themselves."""

from __future__ import annotations

import datetime
import importlib.resources
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters.placement.graph_reader import Graph, Operator, Tensor, read_graphs, runtime_of
from exporters.placement.hardware_tables import (
    FALLS_BACK,
    HARDWARE,
    ON_THE_ACCELERATOR,
    PLACES,
    UNKNOWN,
    HardwareTable,
    Row,
    Source,
    load_table,
    table_pairs,
)
from exporters.placement.onnx_graph import onnx_graph
from exporters.placement.predict import FOLDED, place, predict
from mobile_multimodal.errors import BundleError, UsageError

MODELS = Path(__file__).parents[2] / "mobile_multimodal" / "models"
PACKAGED = sorted(MODELS.glob("*/onnx_*/*.onnx"))
SOURCE = Source("A list", "https://example.org", "2026-01-31", "read")
TABLES = importlib.resources.files("exporters.placement") / "tables"


def table(*rows: Row, unlisted: str = FALLS_BACK, **more: object) -> HardwareTable:
    return HardwareTable("onnxruntime", "gpu", "a chip", "nothing", unlisted, (SOURCE,), rows, **more)  # type: ignore[arg-type]


def graph_of(
    *nodes: onnx.NodeProto,
    weights: dict[str, np.ndarray] | None = None,
    shape: tuple[int | str, ...] = (1, 4),
) -> Graph:
    """Nodes from x to y, both float32 of this shape."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()],
    )
    domains = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]
    return onnx_graph(helper.make_model(graph, opset_imports=domains, ir_version=11))


def node(op: str, reads: str, writes: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op, reads.split(), writes.split(), **attributes)


RUNS = table(Row(("Relu", "Add", "MatMul", "DequantizeLinear")))


# Counted by hand: every activation below has 4 float32 numbers, 16 bytes.


def test_runs_and_what_crosses_between_them_are_counted() -> None:
    graph = graph_of(
        node("Relu", "x", "a"), node("Tanh", "a", "b"), node("Relu", "b", "c"), node("Add", "a c", "y")
    )
    found = predict(graph, RUNS)
    assert [placement.where for placement in found.placements] == [
        ON_THE_ACCELERATOR,
        FALLS_BACK,
        ON_THE_ACCELERATOR,
        ON_THE_ACCELERATOR,
    ]
    assert found.partitions == 3
    # a goes to Tanh and b comes back; Add reads a where it was made.
    assert found.crossing_bytes == 32
    assert not found.sizes_vary


def test_a_tensor_is_brought_to_a_place_once() -> None:
    graph = graph_of(
        node("Relu", "x", "a"), node("Tanh", "a", "b"), node("Tanh", "a", "c"), node("Add", "b c", "y")
    )
    found = predict(graph, RUNS)
    assert found.partitions == 3
    assert found.crossing_bytes == 16 + 2 * 16


def test_where_everything_runs_nothing_crosses() -> None:
    found = predict(graph_of(node("Relu", "x", "a"), node("Add", "a x", "y")), RUNS)
    assert (found.partitions, found.crossing_bytes, list(found.reasons)) == (1, 0, [])


def test_unknown_is_a_place_of_its_own() -> None:
    graph = graph_of(node("Relu", "x", "a"), node("Tanh", "a", "b"), node("Sin", "b", "y"))
    found = predict(graph, table(Row(("Relu",)), Row(("Sin",), placed=UNKNOWN, note="odd")))
    assert found.partitions == 3
    assert found.crossing_bytes == 32
    assert [(row.op, row.where, row.reason, row.count) for row in found.reasons] == [
        ("Tanh", FALLS_BACK, "not in the list", 1),
        ("Sin", UNKNOWN, "odd", 1),
    ]


def test_unpacked_weights_end_no_run_and_cross_nothing() -> None:
    weights = {
        "w": np.ones((4, 4), np.int8),
        "scale": np.float32(0.5).reshape(()),
        "v": np.ones((4, 4), np.int8),
    }
    graph = graph_of(
        node("DequantizeLinear", "w scale", "w_float"),
        node("MatMul", "x w_float", "a"),
        node("DequantizeLinear", "v scale", "v_float"),
        node("Tanh", "v_float", "v_tanh"),
        node("MatMul", "a v_tanh", "y"),
        weights=weights,
    )
    found = predict(graph, RUNS)
    assert [placement.where for placement in found.placements] == [
        FOLDED,
        ON_THE_ACCELERATOR,
        FOLDED,
        FOLDED,
        ON_THE_ACCELERATOR,
    ]
    assert (found.partitions, found.crossing_bytes) == (1, 0)
    assert [step.weights for step in graph.operators] == ["int8"] * 5
    assert [tensor.name for tensor in graph.operators[1].activations] == ["x"]


def test_sizes_that_vary_count_as_one() -> None:
    graph = graph_of(node("Relu", "x", "a"), node("Tanh", "a", "y"), shape=("batch", 4, "rows"))
    found = predict(graph, RUNS)
    assert graph.operators[0].outputs[0].shape == ("batch", 4, "rows")
    assert found.sizes_vary
    assert found.crossing_bytes == 16


def test_shapes_are_known_behind_an_operator_that_onnx_does_not_know() -> None:
    nbits = helper.make_node(
        "MatMulNBits", ["x", "w", "s"], ["a"], domain="com.microsoft", K=4, N=6, bits=2, block_size=16
    )
    weights = {"w": np.ones((6, 1, 4), np.uint8), "s": np.ones(6, np.float32)}
    [matmul, relu] = graph_of(nbits, node("Relu", "a", "y"), weights=weights).operators
    assert matmul.op == "com.microsoft:MatMulNBits"
    assert matmul.weights == "int2"
    assert matmul.outputs[0].shape == relu.outputs[0].shape == (1, 6)


def activation(*shape: int | str, dtype: str = "float32") -> Tensor:
    return Tensor("t", shape, dtype)


def constant(*shape: int, dtype: str = "float32") -> Tensor:
    return Tensor("w", shape, dtype, constant=True, stored=dtype)


FOUR = activation(1, 2, 3, 4)
PLAIN = Operator("", "Op", (FOUR, constant(4)), (FOUR,), version=2)


@pytest.mark.parametrize(
    ("conditions", "changes", "reason"),
    [
        ({"inputs": (("float32",),)}, {"inputs": (activation(4, dtype="int8"),)}, "reads int8, not float32"),
        ({"inputs": ((), ("float32",))}, {"inputs": (FOUR, constant(4, dtype="int64"))}, "reads int64"),
        (
            {"outputs": ("float32", "float16")},
            {"outputs": (activation(4, dtype="bool"),)},
            "writes bool, not",
        ),
        ({"constant": (1,)}, {"inputs": (FOUR, FOUR)}, "input 1 is no constant"),
        ({"activations": (1,)}, {"inputs": (FOUR, FOUR)}, "2 inputs are activations, not 1"),
        ({"input_count": (2, 3)}, {"inputs": (FOUR, None)}, "has 1 inputs, not 2 or 3"),
        ({"max_version": 2}, {"version": 3}, "version 3 of the operator, above 2"),
        ({"min_rank": 4}, {"outputs": (activation(3, 4),)}, "rank 2, and at least 4 is taken"),
        ({"max_rank": 4}, {"inputs": (activation(1, 1, 1, 1, 1),)}, "rank 5, and at most 4 is taken"),
        ({"broadcast": "gpu delegate"}, {"inputs": (FOUR, activation(3, 4), None)}, "broadcasts inputs"),
    ],
)
def test_a_condition_decides(conditions: dict[str, object], changes: dict[str, object], reason: str) -> None:
    row = Row(("Op",), **conditions)  # type: ignore[arg-type]
    assert place(PLAIN, table(row)).where == ON_THE_ACCELERATOR
    broken = place(replace(PLAIN, **changes), table(row))  # type: ignore[arg-type]
    assert broken.where == FALLS_BACK
    assert broken.reason.startswith(reason)
    unsure = place(replace(PLAIN, **changes), table(replace(row, otherwise=UNKNOWN)))  # type: ignore[arg-type]
    assert (unsure.where, unsure.reason) == (UNKNOWN, broken.reason)


@pytest.mark.parametrize(
    ("shapes", "taken"),
    [
        (((1, 2, 3, 4), (4,)), True),
        (((1, 2, 3, 4), (2, 3, 4)), True),
        (((2, 2, 3, 4), (2, 3, 4)), False),
        (((1, 2, 3, 4), (1, 1)), True),
        (((5, 2, 3, 4), (5, 4)), True),
        (((5, 2, 3, 4), (1, 4)), False),
        (((2, 3, 4), (3, 4)), False),
        (((1, 2, 3, 4), (1, 1, 1, 4)), True),
    ],
)
def test_the_gpu_delegate_broadcasts_some_shapes(shapes: tuple[tuple[int, ...], ...], taken: bool) -> None:
    row = Row(("Op",), broadcast="gpu delegate")
    for pair in (shapes, shapes[::-1]):
        operator = replace(PLAIN, inputs=tuple(activation(*shape) for shape in pair))
        assert (place(operator, table(row)).where == ON_THE_ACCELERATOR) is taken


def test_what_holds_for_the_whole_table_comes_before_an_unsure_row() -> None:
    varying = replace(PLAIN, outputs=(activation("batch", 4),))
    fixed = table(Row(("Op",), placed=UNKNOWN), fixed_sizes=True)
    assert place(PLAIN, fixed).where == UNKNOWN
    assert place(varying, fixed).where == FALLS_BACK
    assert place(varying, table(Row(("Op",)))).where == ON_THE_ACCELERATOR
    assert place(PLAIN, table(Row(("Op",)), max_rank=3)).where == FALLS_BACK


@pytest.mark.parametrize(
    ("row", "more"),
    [
        (Row(("Op",), inputs=(("float32",),)), {}),
        (Row(("Op",), max_rank=4), {}),
        (Row(("Op",)), {"fixed_sizes": True}),
    ],
)
def test_what_the_file_does_not_say_is_unknown(row: Row, more: dict[str, object]) -> None:
    operator = replace(PLAIN, inputs=(Tensor("t", None, "unknown"),))
    found = place(operator, table(row, **more))
    assert found.where == UNKNOWN
    assert found.reason.startswith("the file does not say")


def test_an_unlisted_operator_is_what_the_table_says() -> None:
    assert place(PLAIN, table()).where == FALLS_BACK
    assert place(PLAIN, table(unlisted=UNKNOWN)).where == UNKNOWN


# The tables.


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
        replace(table(), sources=())


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


@pytest.fixture(scope="module")
def tflite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A convolution, a clip to 0..1, which XNNPACK does not take, and another convolution."""
    litert_torch = pytest.importorskip("litert_torch")
    import torch
    from torch import nn

    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Hardtanh(0.0, 1.0), nn.Conv2d(4, 2, 1)).eval()
    path = tmp_path_factory.mktemp("tflite") / "small.tflite"
    litert_torch.convert(layers, (torch.zeros(1, 3, 8, 8),)).export(str(path))
    return path


def test_a_tflite_file_is_read(tflite_file: Path) -> None:
    [graph] = read_graphs(tflite_file)
    ops = [step.op for step in graph.operators]
    assert ops.count("CONV_2D") == 2
    assert ops.count("RELU_0_TO_1") == 1
    assert len(graph.inputs) == len(graph.outputs) == 1
    [first, _] = [step for step in graph.operators if step.op == "CONV_2D"]
    assert first.weights == "float32"
    assert [tensor.constant for tensor in first.inputs if tensor] == [False, True, True]
    assert first.outputs[0].shape == (1, 8, 8, 4)


def test_a_tflite_file_is_placed_as_xnnpack_takes_it(tflite_file: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    [graph] = read_graphs(tflite_file)
    found = predict(graph, load_table("litert", "cpu"))
    assert [(row.op, row.where) for row in found.reasons] == [("RELU_0_TO_1", FALLS_BACK)]
    assert found.partitions == 3
    assert found.crossing_bytes == 2 * 8 * 8 * 4 * 4  # to the clip and back, [1, 8, 8, 4] in float32
    interpreter = Interpreter(str(tflite_file), num_threads=1)
    interpreter.allocate_tensors()
    taken = [step for step in interpreter._get_ops_details() if step["op_name"] == "DELEGATE"]
    assert len(taken) == 2


def test_a_tflite_file_is_placed_on_other_hardware(tflite_file: Path) -> None:
    [graph] = read_graphs(tflite_file)
    assert predict(graph, load_table("litert", "hexagon")).reasons == []
    for hardware in ("gpu", "nnapi"):
        reasons = predict(graph, load_table("litert", hardware)).reasons
        assert ("RELU_0_TO_1", FALLS_BACK) in [(row.op, row.where) for row in reasons]


@pytest.fixture(scope="module")
def model_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A softmax, a look-up in a table, and a sum, in float16."""
    ct = pytest.importorskip("coremltools")
    from coremltools.converters.mil import Builder

    @Builder.program(input_specs=[Builder.TensorSpec(shape=(1, 8)), Builder.TensorSpec(shape=(2,))])
    def program(x: object, bias: object) -> object:
        wide = Builder.softmax(x=x, axis=-1)
        picked = Builder.gather(x=wide, indices=[0, 3], axis=1)
        return Builder.add(x=picked, y=bias)

    model = ct.convert(program, convert_to="mlprogram", minimum_deployment_target=ct.target.iOS16)
    path = tmp_path_factory.mktemp("coreml") / "small.mlpackage"
    model.save(str(path))
    return path


def test_a_model_package_is_read_and_placed(model_package: Path) -> None:
    [graph] = read_graphs(model_package)
    steps = {step.op: step for step in graph.operators}
    assert {"softmax", "gather", "add"} <= steps.keys()
    assert "const" not in steps
    assert sorted(graph.inputs) == ["bias", "x"]
    assert steps["softmax"].outputs[0].shape == (1, 8)
    assert steps["softmax"].outputs[0].dtype == "float16"
    assert len(steps["softmax"].activations) == 1
    found = {
        placement.operator.op: placement
        for placement in predict(graph, load_table("coreml", "ane")).placements
    }
    assert found["softmax"].where == ON_THE_ACCELERATOR
    assert found["add"].where == ON_THE_ACCELERATOR
    assert found["gather"].where == FALLS_BACK
    assert found["cast"].where == UNKNOWN


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.onnx", b"\x00\x01garbage"),
        ("empty.onnx", b""),
        ("a.tflite", b"\x00\x01garbage that is no flatbuffer"),
        ("short.tflite", b""),
        ("header.tflite", b"\x20\x00\x00\x00TFL3" + bytes(4)),
    ],
)
def test_a_file_that_cannot_be_understood_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BundleError, match=name):
        read_graphs(path)


@pytest.mark.parametrize("name", ["gone.onnx", "gone.tflite", "gone.mlpackage"])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(BundleError, match=name):
        read_graphs(tmp_path / name)


@pytest.mark.parametrize("manifest", ["[]", "{", '{"rootModelIdentifier": "a", "itemInfoEntries": {}}'])
def test_a_model_package_with_a_bad_manifest_is_named(tmp_path: Path, manifest: str) -> None:
    package = tmp_path / "a.mlpackage"
    package.mkdir()
    (package / "Manifest.json").write_text(manifest)
    with pytest.raises(BundleError, match=r"a\.mlpackage"):
        read_graphs(package)


def test_other_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"model\.pt.*\.onnx, \.tflite, \.mlpackage"):
        read_graphs(tmp_path / "model.pt")
