"""Layers of a TFLite graph whose inputs and outputs are both rounded, computed in whole numbers.

Where a bundle rounds what goes into layers, the graph first computes in floats between a DEQUANTIZE and the
QUANTIZE of the next layer. A layer between the two takes and gives the whole numbers instead, as processors
without floats want it, with its bias in 32 bits (Jacob et al. 2018, arXiv:1712.05877, section 2.2). A layer
whose output is also read as floats, such as the last before a sum, stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from exporters.tflite_graph import Op, TfliteModel, Type, scales_of

__all__ = ["compute_in_integers"]

LAYERS = {Op.CONV_2D, Op.DEPTHWISE_CONV_2D, Op.FULLY_CONNECTED}
INT32 = np.iinfo(np.int32)


def compute_in_integers(model: TfliteModel, graph: Any) -> None:
    """Let every layer of a graph that can compute in whole numbers do so, in place."""
    made = {index: operator for operator in graph.operators for index in operator.outputs}
    readers = model.readers(graph)
    dropped: set[int] = set()

    def whole(index: int) -> int | None:
        """The tensor of 8 bits that a float tensor is made from."""
        operator = made.get(index)
        if operator is None or model.operator_kind(operator) != Op.DEQUANTIZE:
            return None
        source: int = operator.inputs[0]
        return source if graph.tensors[source].type == Type.INT8 else None

    for operator in graph.operators:
        if model.operator_kind(operator) not in LAYERS:
            continue
        given, weight = whole(operator.inputs[0]), whole(operator.inputs[1])
        (output,) = operator.outputs
        taking = [reader for reader, _ in readers[output]]
        if given is None or weight is None or output in graph.outputs or not _same_grid(model, graph, taking):
            continue
        kept, *others = (reader.outputs[0] for reader in taking)
        operator.inputs[:2] = [given, weight]
        if len(operator.inputs) > 2 and operator.inputs[2] >= 0:
            operator.inputs[2] = _whole_bias(model, graph, operator.inputs[2], given, weight)
        operator.outputs = [kept]
        operator.opcodeIndex = model.code(model.operator_kind(operator))
        for index in others:
            for reader, position in readers[index]:
                reader.inputs[position] = kept
        dropped |= {id(reader) for reader in taking}
    graph.operators = [operator for operator in graph.operators if id(operator) not in dropped]
    _drop_unread(graph)


def _same_grid(model: TfliteModel, graph: Any, operators: Sequence[Any]) -> bool:
    """Whether all of these round to one grid, of which there is at least one."""
    if not operators or any(model.operator_kind(operator) != Op.QUANTIZE for operator in operators):
        return False
    grids = [graph.tensors[operator.outputs[0]].quantization for operator in operators]
    return len({(float(grid.scale[0]), int(grid.zeroPoint[0])) for grid in grids}) == 1


def _whole_bias(model: TfliteModel, graph: Any, index: int, given: int, weight: int) -> int:
    """A bias in units of the products that it is added to; returns its index."""
    values = np.frombuffer(model.content(graph.tensors[index]), np.float32)
    scale = graph.tensors[given].quantization.scale[0] * graph.tensors[weight].quantization.scale
    whole = np.clip(np.rint(values / scale.astype(np.float64)), INT32.min, INT32.max).astype(np.int32)
    stored = model.add_constant(graph, whole.shape, Type.INT32, whole.tobytes())
    graph.tensors[stored].quantization = scales_of(scale, 0)
    return stored


def _drop_unread(graph: Any) -> None:
    """Drop the operators that widened what is no longer read as floats."""
    read = {int(index) for operator in graph.operators for index in operator.inputs}
    read |= {int(index) for index in graph.outputs}
    graph.operators = [
        operator for operator in graph.operators if any(index in read for index in operator.outputs)
    ]
