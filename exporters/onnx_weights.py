"""Quantized weights in an ONNX graph: the bundle's own whole numbers and scales, computed in float.

Each becomes ``DequantizeLinear(q, scale)`` (symmetric, no zero point), which ONNX Runtime folds once at load.
Activations stay float, so no integer kernel can saturate.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from mobile_multimodal.errors import UsageError
from mobile_multimodal.quantized_tensor import QuantizedTensor, from_channels, pack

__all__ = ["BITS", "store_weights"]

BITS = (4, 8)
"""What this writer stores."""
Fingerprint = tuple[tuple[int, ...], str]
"""Shape and hash of a weight's floats."""


def store_weights(model: ModelProto, tensors: Mapping[str, QuantizedTensor]) -> None:
    """Store these weights of the captured float graph quantized, in place.

    The exporter renames weights and turns matrices around, so they are found by what they hold.

    Raises:
        UsageError: a number of bits that this writer does not store.
        ValueError: a weight that the graph does not hold: it was captured from other weights.
    """
    graph = model.graph
    wanted: dict[Fingerprint, tuple[QuantizedTensor, bool]] = {}
    missing = {}
    for name, tensor in tensors.items():
        if tensor.scheme.bits not in BITS:
            known = " or ".join(map(str, BITS))
            raise UsageError(
                f"{name} has {tensor.scheme.bits} bits, the ONNX writer stores {known}",
                remedy="quantize with another recipe",
            )
        weight = tensor.dequantize()
        missing[name] = {_fingerprint(weight), _fingerprint(weight.T)}
        if weight.ndim == 2:
            wanted[_fingerprint(weight.T)] = tensor, True
        wanted[_fingerprint(weight)] = tensor, False
    nodes: list[NodeProto] = []
    replaced: dict[str, str] = {}
    held = set()
    for place in list(graph.initializer):
        if place.data_type != TensorProto.FLOAT or len(place.dims) < 2:
            continue
        found = _fingerprint(numpy_helper.to_array(place))
        if found in wanted:
            held.add(found)
            graph.initializer.remove(place)
            stored, added = _dequantized(place.name, *wanted[found])
            graph.initializer.extend(stored)
            nodes += added
            replaced[place.name] = added[-1].output[0]
    if lost := [name for name, prints in missing.items() if not prints & held]:
        raise ValueError(f"the graph holds no weight {lost[0]}")
    for node in graph.node:
        for position, source in enumerate(node.input):
            node.input[position] = replaced.get(source, source)
    following = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *following])
    onnx.checker.check_model(model, full_check=True)


def _dequantized(
    name: str, tensor: QuantizedTensor, turned: bool
) -> tuple[Sequence[TensorProto], Sequence[NodeProto]]:
    """Initializers and nodes that give the weight; ``turned`` if the graph holds it transposed."""
    scale = tensor.scale.astype(np.float32)
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
    nodes = [
        helper.make_node(
            "DequantizeLinear", [stored, scales], [matrix], name=f"{name}.dequantize", **attributes
        )
    ]
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


def _integers(values: NDArray[np.int8], bits: int, name: str) -> TensorProto:
    if bits == 8:
        return numpy_helper.from_array(values, name)
    # ONNX packs all values in a row without gaps, in two's complement.
    packed = pack(values.reshape(1, -1), bits) ^ np.uint8(0x88)
    return helper.make_tensor(name, TensorProto.INT4, values.shape, packed.tobytes(), raw=True)


def _fingerprint(weight: NDArray[np.float32]) -> Fingerprint:
    return weight.shape, hashlib.sha256(np.ascontiguousarray(weight).tobytes()).hexdigest()
