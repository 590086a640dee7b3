"""8-bit weights in an ONNX graph: stored as int8 with a scale a channel, computed in float.

Each weight becomes ``DequantizeLinear(int8, scale)`` (symmetric, no zero point), which ONNX Runtime
folds once at load. Activations stay float, so no integer kernel can saturate.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

__all__ = ["quantize_weights", "symmetric_int8"]

MIN_VALUES = 256
"""Smaller tensors stay float: their scales would weigh more than they save."""


def symmetric_int8(weight: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round to ``scale * q`` with ``q`` in -127..127 and one scale for each index of ``axis``.

    A channel of zeros has scale 1, so that nothing divides by zero.
    """
    others = tuple(i for i in range(weight.ndim) if i != axis)
    scale = np.abs(weight).max(axis=others, keepdims=True) / 127.0
    scale = np.where(scale == 0, 1.0, scale).astype(np.float32)
    quantized = np.clip(np.rint(weight / scale), -127, 127).astype(np.int8)
    return quantized, scale.reshape(-1)


def _channel_axis(graph: GraphProto, name: str, weight: NDArray[np.float32]) -> int | None:
    """The axis of the output channels, by what consumes the weight; None where it must stay float."""
    axes = set(_consumer_axes(graph, name, weight.ndim))
    return axes.pop() if len(axes) == 1 else None


def _consumer_axes(graph: GraphProto, name: str, rank: int) -> Iterator[int | None]:
    for node in graph.node:
        for position, source in enumerate(node.input):
            if source == name:
                yield _axis_for(graph, node, position, rank)


def _axis_for(graph: GraphProto, node: NodeProto, position: int, rank: int) -> int | None:
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    if node.op_type == "Conv" and position == 1:
        return 0
    if node.op_type == "ConvTranspose" and position == 1:
        return 1 if attributes.get("group", 1) == 1 else None
    if node.op_type == "Gather" and position == 0 and attributes.get("axis", 0) == 0:
        return 0
    if node.op_type == "MatMul" and position == 1:
        return rank - 1
    if node.op_type == "Gemm" and position == 1:
        return 0 if attributes.get("transB", 0) else 1
    if node.op_type == "Transpose" and rank == 2:
        axes = set(_consumer_axes(graph, node.output[0], rank))
        axis = axes.pop() if len(axes) == 1 else None
        return None if axis is None else 1 - axis
    return None


def quantize_weights(model: ModelProto) -> int:
    """Store every large weight of the graph in 8 bits, in place; returns how many numbers that are."""
    graph = model.graph
    count = 0
    nodes: list[NodeProto] = []
    replaced: dict[str, str] = {}
    for tensor in list(graph.initializer):
        if (
            tensor.data_type != TensorProto.FLOAT
            or int(np.prod(tensor.dims)) < MIN_VALUES
            or len(tensor.dims) < 2
        ):
            continue
        weight = numpy_helper.to_array(tensor)
        axis = _channel_axis(graph, tensor.name, weight)
        if axis is None:
            continue
        quantized, scale = symmetric_int8(weight, axis)
        stored, scales, output = f"{tensor.name}.int8", f"{tensor.name}.scale", f"{tensor.name}.float"
        graph.initializer.remove(tensor)
        graph.initializer.append(numpy_helper.from_array(quantized, stored))
        graph.initializer.append(numpy_helper.from_array(scale, scales))
        nodes.append(
            helper.make_node(
                "DequantizeLinear", [stored, scales], [output], name=f"{tensor.name}.dequantize", axis=axis
            )
        )
        replaced[tensor.name] = output
        count += weight.size
    for node in graph.node:
        for position, source in enumerate(node.input):
            node.input[position] = replaced.get(source, source)
    following = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *following])
    onnx.checker.check_model(model, full_check=True)
    return count
