"""Quantized weights in a TFLite model: the bundle's own whole numbers and scales.

A matrix of 2 or 4 bits becomes the weight of a FULLY_CONNECTED, which the runtime multiplies as it is stored;
a pointwise convolution becomes such an operator, which it is in all but name. Rows of an embedding of 4 bits
are unpacked as they are looked up. Any other weight becomes a constant behind a DEQUANTIZE, which the runtime
computes once, so that the layer computes in float32 on the very numbers that torch has. Float weights are
stored in float16 the same way, as the bundle has them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from exporters.tflite_graph import Op, Reader, TfliteModel, Type, content_hash, scales_of
from exporters.tflite_integers import compute_in_integers
from mobile_multimodal.quantized_tensor import QuantizedTensor, from_channels, pack
from mobile_multimodal.weight_files import StoredTensor

__all__ = ["INTEGERS", "LAYOUTS", "store_weights"]

INTEGERS = {8: (Type.INT8, 0), 4: (Type.INT4, 0x88), 2: (Type.INT2, 0xAA)}
"""The type of packed values, and what turns each one's sign bit around: TFLite stores two's complement."""
LAYOUTS: Mapping[int, tuple[tuple[int, ...], ...]] = {2: ((0, 1),), 4: ((0, 2, 3, 1), (1, 2, 3, 0))}
"""How the converter turns the axes of a weight, by rank: matrices stay; convolutions have their inputs last,
depthwise and transposed ones what torch has first."""
SMALLEST_HALF = 1024
"""Values below which a float weight stays in float32: a DEQUANTIZE of its own takes as many bytes. Biases do
too, which XNNPACK wants as constants."""


@dataclass(frozen=True)
class _Found:
    """A quantized weight as the graph holds it: which, and with its axes in which order."""

    name: str
    tensor: QuantizedTensor
    order: tuple[int, ...]
    scales: Any

    @property
    def axis(self) -> int:
        """Where the graph has the output channels."""
        return self.order.index(self.tensor.axis)


def store_weights(model: TfliteModel, tensors: Mapping[str, StoredTensor], *, halves: bool = True) -> None:
    """Store the weights of a converted float model as the bundle has them, in place.

    The converter renames weights, so they are found by what they hold. ``halves`` stores float weights in
    float16 where that loses nothing.

    Raises:
        ValueError: a quantized weight that the model does not hold: it was converted from other weights, or
            the converter has merged something into it.
    """
    wanted: dict[str, _Found] = {}
    for name, tensor in tensors.items():
        if isinstance(tensor, QuantizedTensor):
            weight = tensor.dequantize()
            for order in LAYOUTS[weight.ndim]:
                mark = content_hash(np.ascontiguousarray(weight.transpose(order)).tobytes())
                found = _Found(name, tensor, order, None)
                wanted.setdefault(mark, _with_scales(found))
    held = set()
    for graph in model.graphs:
        ahead: list[Any] = []
        rounding: dict[int, Sequence[Any]] = {}
        readers = model.readers(graph)
        for index in range(len(graph.tensors)):
            tensor, reading = graph.tensors[index], readers[index]
            if tensor.type != Type.FLOAT32 or not reading or not (content := model.content(tensor)):
                continue
            if (place := wanted.get(content_hash(content))) is not None:
                held.add(place.name)
                if place.tensor.input_grid is not None:
                    for operator, position in reading:
                        if position == 1:
                            rounding[id(operator)] = _round_input(model, graph, operator, place.tensor)
                ahead += _store(model, graph, index, place, reading)
            elif halves:
                ahead += _store_half(model, graph, index, content, reading)
        body = [step for operator in graph.operators for step in (*rounding.get(id(operator), ()), operator)]
        graph.operators = [*ahead, *body]
        if rounding:
            compute_in_integers(model, graph)
    if lost := [name for name, x in tensors.items() if isinstance(x, QuantizedTensor) and name not in held]:
        raise ValueError(f"the model holds no weight {lost[0]}")
    model.drop_unread()


def _with_scales(found: _Found) -> _Found:
    weight = found.tensor
    if not _in_groups(weight):
        return _Found(found.name, weight, found.order, scales_of(weight.scale, found.axis))
    # One scale for each group, multiplied in the graph: as parameters of the tensor they would take 12 bytes.
    return _Found(found.name, weight, found.order, scales_of(np.ones(1), 0))


def _in_groups(weight: QuantizedTensor) -> bool:
    """Whether a channel has several scales. One is a parameter of the tensor, which takes no operator."""
    return weight.scheme.groups(weight.columns) > 1


def _store(
    model: TfliteModel, graph: Any, index: int, found: _Found, readers: Sequence[Reader]
) -> Sequence[Any]:
    """Store one weight of one graph; returns the operators that must run ahead of its readers."""
    tensor, weight = graph.tensors[index], found.tensor
    if _runs_packed(model, tensor, weight, readers):
        stored = _integers(model, graph, weight.values(), found)
        if weight.scheme.bits == 4:
            graph.tensors[stored].quantization = _blocks(model, graph, weight)
        for operator, _ in readers:
            operator.inputs[1] = stored
            _let_read_packed(model, operator)
        return []
    if _in_groups(weight):
        return _store_groups(model, graph, index, found, readers)
    values = from_channels(weight.values(), weight.shape, weight.axis).transpose(found.order)
    # A pointwise convolution may have become a matrix, whose channels come first as well.
    stored = _integers(model, graph, values.reshape(tensor.shape), found)
    return [model.operator(graph, Op.DEQUANTIZE, [stored], _computed(model, graph, index, readers))]


def _runs_packed(model: TfliteModel, tensor: Any, weight: QuantizedTensor, readers: Sequence[Reader]) -> bool:
    """Whether every reader can take the weight as it is stored: 2 bits by channel, 4 in blocks of a row."""
    bits, width = weight.scheme.bits, weight.scheme.group_size
    packs = width is None and weight.columns % 4 == 0 if bits == 2 else bits == 4 and _in_blocks(weight)
    return packs and all(
        position == 1 and (_is_matrix_product(model, operator, tensor) or _looks_up(model, operator, bits))
        for operator, position in readers
    )


def _in_blocks(weight: QuantizedTensor) -> bool:
    """Whether XNNPACK's blockwise products can take the weight: scales for multiples of 32, no remainder.

    A row with one scale is one block: its scale then takes 2 bytes, where one by channel takes 12.
    """
    width = weight.scheme.group_size or weight.columns
    return width % 32 == 0 and weight.columns % width == 0


def _blocks(model: TfliteModel, graph: Any, weight: QuantizedTensor) -> Any:
    """Quantization parameters of a matrix in blocks, whose scales are a tensor of their own."""
    details = schema.BlockwiseQuantizationT()
    details.scales = model.add_constant(graph, weight.scale.shape, Type.FLOAT16, weight.scale.tobytes())
    details.zeroPoints, details.blockSize = -1, weight.scheme.group_size or weight.columns
    parameters = schema.QuantizationParametersT()
    parameters.details = details
    parameters.detailsType = schema.QuantizationDetails.BlockwiseQuantization
    return parameters


def _is_matrix_product(model: TfliteModel, operator: Any, weight: Any) -> bool:
    """FULLY_CONNECTED, or a convolution that multiplies every place by one matrix."""
    kind = model.operator_kind(operator)
    if kind != Op.CONV_2D:
        return bool(kind == Op.FULLY_CONNECTED)
    options = operator.builtinOptions
    return bool(weight.shape[1] == weight.shape[2] == 1 and options.strideH == options.strideW == 1)


def _looks_up(model: TfliteModel, operator: Any, bits: int) -> bool:
    return bits == 4 and model.operator_kind(operator) == Op.EMBEDDING_LOOKUP


def _let_read_packed(model: TfliteModel, operator: Any) -> None:
    """Make a matrix product of a convolution, and say which version of the operator reads packed weights."""
    kind = model.operator_kind(operator)
    if kind == Op.CONV_2D:
        options = schema.FullyConnectedOptionsT()
        options.fusedActivationFunction = operator.builtinOptions.fusedActivationFunction
        options.keepNumDims = True
        operator.builtinOptions = options
        operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    operator.opcodeIndex = model.code(
        Op.EMBEDDING_LOOKUP if kind == Op.EMBEDDING_LOOKUP else Op.FULLY_CONNECTED
    )


def _store_groups(
    model: TfliteModel, graph: Any, index: int, found: _Found, readers: Sequence[Reader]
) -> Sequence[Any]:
    """A row for each group, times its scale; then the weight is put together, and its axes are turned."""
    weight, target = found.tensor, [int(size) for size in graph.tensors[index].shape]
    channels, columns, width = weight.shape[weight.axis], weight.columns, weight.scheme.group_size
    assert width is not None
    groups = weight.scheme.groups(columns)
    values = np.zeros((channels, groups * width), np.int8)
    values[:, :columns] = weight.values()
    rows = [channels * groups, width]
    whole = _integers(model, graph, values.reshape(rows), found)
    scale = model.add_constant(graph, [rows[0], 1], Type.FLOAT16, weight.scale.tobytes())
    floats, factors = model.add_tensor(graph, rows), model.add_tensor(graph, [rows[0], 1])
    source = model.add_tensor(graph, rows)
    operators = [
        model.operator(graph, Op.DEQUANTIZE, [whole], floats),
        model.operator(graph, Op.DEQUANTIZE, [scale], factors),
        model.operator(graph, Op.MUL, [floats, factors], source),
    ]

    def step(kind: int, shape: Sequence[int], *constants: Sequence[int], last: bool = False) -> None:
        nonlocal source
        inputs = [source, *(model.add_whole(graph, each) for each in constants)]
        source = _computed(model, graph, index, readers) if last else model.add_tensor(graph, shape)
        operators.append(model.operator(graph, kind, inputs, source))

    if groups * width != columns:
        step(Op.RESHAPE, [channels, groups * width], [channels, groups * width])
        step(Op.SLICE, [channels, columns], [0, 0], [channels, columns])
    others = [axis for axis in range(len(weight.shape)) if axis != weight.axis]
    moved = [channels, *(weight.shape[axis] for axis in others)]
    turns = [[weight.axis, *others].index(axis) for axis in found.order]
    wide = [turn for turn in turns if moved[turn] > 1]
    if wide != sorted(wide):
        step(Op.RESHAPE, moved, moved)
        step(Op.TRANSPOSE, target, turns, last=True)
    else:
        step(Op.RESHAPE, target, target, last=True)
    return operators


def _store_half(
    model: TfliteModel, graph: Any, index: int, content: bytes, readers: Sequence[Reader]
) -> Sequence[Any]:
    """Store a float weight in two bytes each where that loses nothing."""
    values = np.frombuffer(content, np.float32)
    if len(values) < SMALLEST_HALF or len(graph.tensors[index].shape) < 2:
        return []
    with np.errstate(over="ignore"):
        halves = values.astype(np.float16)
    if not np.array_equal(halves.astype(np.float32), values):
        return []
    stored = model.add_constant(graph, graph.tensors[index].shape, Type.FLOAT16, halves.tobytes())
    return [model.operator(graph, Op.DEQUANTIZE, [stored], _computed(model, graph, index, readers))]


def _round_input(model: TfliteModel, graph: Any, operator: Any, weight: QuantizedTensor) -> Sequence[Any]:
    """Let an operator read its input on the grid; the two operators that go ahead of it."""
    grid = weight.input_grid
    assert grid is not None
    # The first input of a transposed convolution is the shape of its output.
    place = 2 if model.operator_kind(operator) == Op.TRANSPOSE_CONV else 0
    source = operator.inputs[place]
    shape = graph.tensors[source].shape
    whole, rounded = model.add_tensor(graph, shape, Type.INT8), model.add_tensor(graph, shape)
    # Whole numbers with a sign, as processors for TFLite have them: 128 below the bundle's.
    graph.tensors[whole].quantization = scales_of(np.array([grid.scale]), 0, grid.zero_point - 128)
    operator.inputs[place] = rounded
    return (
        model.operator(graph, Op.QUANTIZE, [source], whole),
        model.operator(graph, Op.DEQUANTIZE, [whole], rounded),
    )


def _integers(model: TfliteModel, graph: Any, values: NDArray[np.int8], found: _Found) -> int:
    """A constant of packed whole numbers with the weight's scales; returns its index."""
    bits = found.tensor.scheme.bits
    kind, signs = INTEGERS[bits]
    content = np.ascontiguousarray(values)
    if bits == 8:
        packed = content.tobytes()
    else:  # all values in a row without gaps, the first in the lowest bits
        packed = (pack(content.reshape(1, -1), bits) ^ np.uint8(signs)).tobytes()
    index = model.add_constant(graph, values.shape, kind, packed)
    graph.tensors[index].quantization = found.scales
    return index


def _computed(model: TfliteModel, graph: Any, index: int, readers: Sequence[Reader]) -> int:
    """A float tensor in the place of the constant that these readers read; returns its index."""
    computed = model.add_tensor(graph, graph.tensors[index].shape)
    for operator, position in readers:
        operator.inputs[position] = computed
    return computed
