"""Operators placed by a table: where each runs and why, partitions, and what crosses between them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters.placement.graph_reader import Graph, Operator, Tensor
from exporters.placement.hardware_tables import (
    FALLS_BACK,
    ON_THE_ACCELERATOR,
    UNKNOWN,
    HardwareTable,
    Row,
    Source,
)
from exporters.placement.onnx_graph import onnx_graph
from exporters.placement.predict import FOLDED, place, predict

SOURCE = Source("A list", "https://example.org", "2026-01-31", "read")


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
