"""Quantized weights in an ONNX graph: the bundle's own whole numbers and scales.

A matrix of 2 bits becomes the weight of ``MatMulNBits``, which ONNX Runtime computes as it is stored. Any
other weight becomes ``DequantizeLinear(q, scale)`` (symmetric, no zero point), folded once at load and
computed in float, so that no integer kernel can saturate. Inputs that are rounded pass a pair of
QuantizeLinear and DequantizeLinear, which integer processors take as the order to compute in 8 bits.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from mobile_multimodal.quantized_tensor import InputGrid, QuantizedTensor, from_channels, pack

__all__ = ["OPSETS", "SMALLEST_HALF", "store_halves", "store_weights"]

MICROSOFT = "com.microsoft"
INTEGERS = {2: (TensorProto.INT2, 0xAA), 4: (TensorProto.INT4, 0x88)}
"""Type of packed values, and what turns each one's sign bit around: ONNX stores two's complement."""
OPSETS = {2: 25}
"""The operator set in which ONNX begins to know these bits, where it is later than the exporter's."""
BLOCK = 128
"""Columns that share a scale in ``MatMulNBits``: with blocks of 256, or output channels that are no multiple
of 128, ONNX Runtime 1.32 takes a path that is over 10 times slower."""
SMALLEST_HALF = 96
"""Values below which a float constant stays in float32: the operator that widens it takes as many bytes."""
INT8_ACTIVATIONS = 4
"""``accuracy_level`` of the fast kernel: rows of the input are rounded to 8 bits, block by block."""
Fingerprint = tuple[tuple[int, ...], str]
"""Shape and hash of a weight's floats."""


def store_weights(model: ModelProto, tensors: Mapping[str, QuantizedTensor]) -> None:
    """Store these weights of the captured float graph quantized, in place.

    The exporter renames weights and turns matrices around, so they are found by what they hold.

    Raises:
        ValueError: a weight that the graph does not hold: it was captured from other weights; or bits that
            its operator set does not know.
    """
    graph = model.graph
    opset = max(entry.version for entry in model.opset_import if not entry.domain)
    wanted: dict[Fingerprint, tuple[QuantizedTensor, bool]] = {}
    missing = {}
    for name, tensor in tensors.items():
        if OPSETS.get(tensor.scheme.bits, 0) > opset:
            raise ValueError(f"{name} has {tensor.scheme.bits} bits, which opset {opset} does not know")
        weight = tensor.dequantize()
        missing[name] = {_fingerprint(weight), _fingerprint(weight.T)}
        if weight.ndim == 2:
            wanted[_fingerprint(weight.T)] = tensor, True
        wanted[_fingerprint(weight)] = tensor, False
    nodes: list[NodeProto] = []
    replaced: dict[str, str] = {}
    ahead: dict[str, Sequence[NodeProto]] = {}
    held = set()
    readers = _readers(graph)
    for place in list(graph.initializer):
        if place.data_type != TensorProto.FLOAT or len(place.dims) < 2:
            continue
        found = _fingerprint(numpy_helper.to_array(place))
        if found in wanted:
            held.add(found)
            graph.initializer.remove(place)
            tensor, turned = wanted[found]
            reading = readers[place.name]
            if tensor.input_grid is not None:
                graph.initializer.extend(_grid_constants(place.name, tensor.input_grid))
                for node in reading:
                    ahead[node.output[0]] = _round_inputs(place.name, node)
            if turned and _fits_kernel(tensor) and all(_multiplies(node, place.name) for node in reading):
                graph.initializer.extend(_multiply_packed(place.name, tensor, reading))
                continue
            stored, added = _dequantized(place.name, tensor, turned)
            graph.initializer.extend(stored)
            nodes += added
            replaced[place.name] = added[-1].output[0]
    if lost := [name for name, prints in missing.items() if not prints & held]:
        raise ValueError(f"the graph holds no weight {lost[0]}")
    for node in graph.node:
        for position, source in enumerate(node.input):
            node.input[position] = replaced.get(source, source)
    following = [step for node in graph.node for step in (*ahead.get(node.output[0], ()), node)]
    del graph.node[:]
    graph.node.extend([*nodes, *following])
    if any(node.domain == MICROSOFT for node in graph.node):
        model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
    onnx.checker.check_model(model, full_check=True)


def store_halves(model: ModelProto) -> None:
    """Store float constants in two bytes each, in place, where that loses nothing; computed is in float32.

    ONNX Runtime widens them once, when the file is loaded.
    """
    graph = model.graph
    nodes = []
    for place in list(graph.initializer):
        if place.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(place)
        with np.errstate(over="ignore"):
            halves = values.astype(np.float16)
        if values.size < SMALLEST_HALF or not np.array_equal(halves.astype(np.float32), values):
            continue
        graph.initializer.remove(place)
        graph.initializer.append(numpy_helper.from_array(halves, f"{place.name}.half"))
        nodes.append(helper.make_node("Cast", [f"{place.name}.half"], [place.name], to=TensorProto.FLOAT))
    body = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *body])
    onnx.checker.check_model(model, full_check=True)


def _dequantized(
    name: str, tensor: QuantizedTensor, turned: bool
) -> tuple[Sequence[TensorProto], Sequence[NodeProto]]:
    """Initializers and nodes that give the weight; ``turned`` if the graph holds it transposed."""
    scale = tensor.scale
    if tensor.scheme.group_size is None:
        # One scale a channel fits every layout: converters know a weight in its own shape best.
        values = from_channels(tensor.values(), tensor.shape, tensor.axis)
        axis = tensor.axis
        if turned:
            values, axis = np.ascontiguousarray(values.T), 1 - axis
        attributes: dict[str, Any] = {"axis": axis}
        scale = scale.reshape(-1)
        whole = True
    else:
        values, attributes = tensor.values(), {"axis": 1, "block_size": tensor.scheme.group_size}
        whole = tensor.shape == values.shape and not turned
    stored, scales = f"{name}.int{tensor.scheme.bits}", f"{name}.scale"
    output = f"{name}.float"
    matrix = output if whole else f"{name}.matrix"
    initializers = [_integers(values, tensor.scheme.bits, stored), numpy_helper.from_array(scale, scales)]
    nodes = []
    if scale.dtype != np.float32:  # kept in its two bytes; the product is rounded in float32 alone
        scales = f"{scales}.float"
        nodes.append(helper.make_node("Cast", [f"{name}.scale"], [scales], to=TensorProto.FLOAT))
    nodes.append(
        helper.make_node(
            "DequantizeLinear", [stored, scales], [matrix], name=f"{name}.dequantize", **attributes
        )
    )
    if whole:
        return initializers, nodes
    if turned:  # the weight of a linear layer, whose matrix is the weight itself
        return initializers, [*nodes, helper.make_node("Transpose", [matrix], [output], perm=[1, 0])]
    moved = [tensor.shape[tensor.axis], *(n for i, n in enumerate(tensor.shape) if i != tensor.axis)]
    shape, shaped = f"{name}.shape", output if tensor.axis == 0 else f"{name}.shaped"
    initializers.append(numpy_helper.from_array(np.array(moved, dtype=np.int64), shape))
    nodes.append(helper.make_node("Reshape", [matrix, shape], [shaped]))
    if tensor.axis:
        order = [*range(1, tensor.axis + 1), 0, *range(tensor.axis + 1, len(tensor.shape))]
        nodes.append(helper.make_node("Transpose", [shaped], [output], perm=order))
    return initializers, nodes


def _readers(graph: GraphProto) -> dict[str, list[NodeProto]]:
    """The nodes that read each tensor."""
    readers: dict[str, list[NodeProto]] = defaultdict(list)
    for node in graph.node:
        for source in node.input:
            readers[source].append(node)
    return readers


def _grid_constants(name: str, grid: InputGrid) -> Sequence[TensorProto]:
    """The scale and zero point that the inputs of this weight's layers are rounded by."""
    return (
        numpy_helper.from_array(np.array(grid.scale, dtype=np.float32), f"{name}.input_scale"),
        numpy_helper.from_array(np.array(grid.zero_point, dtype=np.uint8), f"{name}.input_zero_point"),
    )


def _round_inputs(name: str, node: NodeProto) -> Sequence[NodeProto]:
    """Let a node read its input rounded, in place; the two nodes that go ahead of it."""
    grid = [f"{name}.input_scale", f"{name}.input_zero_point"]
    whole, rounded = f"{node.output[0]}.input_uint8", f"{node.output[0]}.input"
    steps = (
        helper.make_node("QuantizeLinear", [node.input[0], *grid], [whole], name=f"{whole}.quantize"),
        helper.make_node("DequantizeLinear", [whole, *grid], [rounded], name=f"{rounded}.dequantize"),
    )
    node.input[0] = rounded
    return steps


def _fits_kernel(tensor: QuantizedTensor) -> bool:
    channels, columns = tensor.shape[tensor.axis], tensor.columns
    scheme = tensor.scheme
    return scheme.bits == 2 and scheme.group_size is None and channels % BLOCK == 0 and columns % BLOCK == 0


def _multiplies(node: NodeProto, weight: str) -> bool:
    return node.op_type == "MatMul" and node.input[1] == weight and node.input[0] != weight


def _multiply_packed(
    name: str, tensor: QuantizedTensor, readers: Sequence[NodeProto]
) -> Sequence[TensorProto]:
    """Let the nodes that multiply by this weight read it packed, in place → the initializers for that."""
    packed, scales = f"{name}.int2", f"{name}.scale"
    channels, columns = tensor.shape[tensor.axis], tensor.columns
    blocks = columns // BLOCK
    for node in readers:
        source, output = node.input[0], node.output[0]
        multiply = helper.make_node(
            "MatMulNBits",
            [source, packed, scales],
            [output],
            name=node.name,
            domain=MICROSOFT,
            K=columns,
            N=channels,
            bits=2,
            block_size=BLOCK,
            accuracy_level=INT8_ACTIVATIONS,
        )
        node.CopyFrom(multiply)
    return (
        numpy_helper.from_array(tensor.packed.reshape(channels, blocks, -1), packed),
        numpy_helper.from_array(np.repeat(tensor.scale.astype(np.float32), blocks, axis=1), scales),
    )


def _integers(values: NDArray[np.int8], bits: int, name: str) -> TensorProto:
    if bits == 8:
        return numpy_helper.from_array(values, name)
    # All values in a row without gaps.
    kind, signs = INTEGERS[bits]
    packed = pack(values.reshape(1, -1), bits) ^ np.uint8(signs)
    return helper.make_tensor(name, kind, values.shape, packed.tobytes(), raw=True)


def _fingerprint(weight: NDArray[np.float32]) -> Fingerprint:
    return weight.shape, hashlib.sha256(np.ascontiguousarray(weight).tobytes()).hexdigest()
