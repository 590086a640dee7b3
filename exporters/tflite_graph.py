"""A TFLite model as its schema has it: read, added to, and written again, each thing once.

The schema's own classes hold it (``ai_edge_litert.schema_py_generated``), which have no type hints.
"""

from __future__ import annotations

import copy
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobile_multimodal.errors import MissingExtraError

try:
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema
except ImportError as exc:
    raise MissingExtraError("ai-edge-litert", "export") from exc

__all__ = ["Op", "Reader", "TfliteModel", "Type", "content_hash", "scales_of"]

Op = schema.BuiltinOperator
Type = schema.TensorType
Reader = tuple[Any, int]
"""An operator, and which of its inputs is meant."""
IDENTIFIER = b"TFL3"
VERSIONS = {
    Op.CONV_2D: 3,
    Op.DEPTHWISE_CONV_2D: 3,
    Op.DEQUANTIZE: 6,
    Op.EMBEDDING_LOOKUP: 4,
    Op.FULLY_CONNECTED: 9,
    Op.MUL: 1,
    Op.QUANTIZE: 2,
    Op.RESHAPE: 1,
    Op.SLICE: 1,
    Op.TRANSPOSE: 1,
}
"""The versions of the operators that are added: per channel, in whole numbers, and of fewer than 8 bits."""


class _Builder(flatbuffers.Builder):  # type: ignore[misc]
    """A builder that writes equal vectors once, and knows where tables stand."""

    def __init__(self) -> None:
        super().__init__(1 << 20)
        self.places: dict[Any, int] = {}

    def CreateNumpyVector(self, x: NDArray[Any]) -> int:  # noqa: N802 - flatbuffers' own name
        """Where a vector of these numbers stands in the file."""
        mark = x.dtype.str, content_hash(x.tobytes())
        if mark not in self.places:
            self.places[mark] = super().CreateNumpyVector(x)
        return self.places[mark]


class TfliteModel:
    """A model that weights are stored into; a constant that several graphs read is held once."""

    def __init__(self, content: bytes) -> None:
        self.root = schema.ModelT.InitFromPackedBuf(content, 0)
        self._codes: dict[int, int] = {}
        self._buffers: dict[str, int] = {}
        for graph in self.graphs:
            for operator in graph.operators:
                operator.inputs = [int(index) for index in operator.inputs]

    @property
    def graphs(self) -> Sequence[Any]:
        """The graphs, in order."""
        return list(self.root.subgraphs)

    def content(self, tensor: Any) -> bytes:
        """What a constant tensor holds; nothing for any other."""
        data = self.root.buffers[tensor.buffer].data
        return b"" if data is None else bytes(data)

    def operator_kind(self, operator: Any) -> int:
        """Which builtin operator this is (``Op``)."""
        code = self.root.operatorCodes[operator.opcodeIndex]
        return max(int(code.builtinCode), int(code.deprecatedBuiltinCode))

    def readers(self, graph: Any) -> dict[int, list[Reader]]:
        """The operators that read each tensor of a graph."""
        readers: dict[int, list[Reader]] = defaultdict(list)
        for operator in graph.operators:
            for position, index in enumerate(operator.inputs):
                readers[index].append((operator, position))
        return readers

    def add_constant(self, graph: Any, shape: Iterable[int], kind: int, content: bytes) -> int:
        """A tensor that holds this; returns its index."""
        mark = content_hash(content)
        if mark not in self._buffers:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(content, np.uint8)
            self.root.buffers.append(buffer)
            self._buffers[mark] = len(self.root.buffers) - 1
        return self.add_tensor(graph, shape, kind, self._buffers[mark])

    def add_whole(self, graph: Any, values: Iterable[int]) -> int:
        """A constant of whole numbers [N], as shapes and axes are given."""
        content = np.array(list(values), np.int32)
        return self.add_constant(graph, content.shape, Type.INT32, content.tobytes())

    def add_tensor(self, graph: Any, shape: Iterable[int], kind: int = Type.FLOAT32, buffer: int = 0) -> int:
        """A tensor that is computed, or reads a buffer; returns its index."""
        tensor = schema.TensorT()
        tensor.type, tensor.buffer, tensor.hasRank = kind, buffer, True
        tensor.shape = np.array(list(shape), np.int32)
        graph.tensors.append(tensor)
        return len(graph.tensors) - 1

    def operator(self, graph: Any, kind: int, inputs: Sequence[int], output: int) -> Any:
        """An operator that gives this tensor; where it stands in the graph is up to the caller."""
        operator = schema.OperatorT()
        operator.opcodeIndex = self.code(kind)
        operator.inputs, operator.outputs = list(inputs), [output]
        if kind == Op.RESHAPE:
            operator.builtinOptions = schema.ReshapeOptionsT()
            operator.builtinOptions.newShape = np.array(graph.tensors[output].shape, np.int32)
            operator.builtinOptionsType = schema.BuiltinOptions.ReshapeOptions
        elif kind == Op.MUL:
            operator.builtinOptions = schema.MulOptionsT()
            operator.builtinOptionsType = schema.BuiltinOptions.MulOptions
        return operator

    def code(self, kind: int) -> int:
        """The index under which operators of this kind are added."""
        if kind not in self._codes:
            code = schema.OperatorCodeT()
            code.builtinCode = code.deprecatedBuiltinCode = kind
            code.version = VERSIONS[kind]
            self.root.operatorCodes.append(code)
            self._codes[kind] = len(self.root.operatorCodes) - 1
        return self._codes[kind]

    def drop_unread(self) -> None:
        """Drop what nothing reads, and every name but those of inputs and outputs: they are long paths."""
        for graph in self.graphs:
            read = {index for operator in graph.operators for index in operator.inputs}
            kinds = (tensor.quantization for tensor in graph.tensors if tensor.quantization is not None)
            read |= {each.details.scales for each in kinds if each.details is not None}
            named = {*map(int, graph.inputs), *map(int, graph.outputs)}
            for index, tensor in enumerate(graph.tensors):
                if index not in named:
                    tensor.name = None
                    if index not in read and self.content(tensor):
                        tensor.buffer = 0
        self._drop_buffers()

    def _drop_buffers(self) -> None:
        """Leave out the buffers that no tensor has, and the empty ones, for which the first stands."""
        tensors = [tensor for graph in self.graphs for tensor in graph.tensors]
        for tensor in tensors:
            # The converter gives each computed tensor a buffer of its own, by which equal ones would differ.
            if not self.content(tensor):
                tensor.buffer = 0
        holders = [*tensors, *(self.root.metadata or ())]
        used = sorted({0, *(holder.buffer for holder in holders)})
        places = {index: place for place, index in enumerate(used)}
        for holder in holders:
            holder.buffer = places[holder.buffer]
        self.root.buffers = [self.root.buffers[index] for index in used]
        self._buffers = {mark: places[index] for mark, index in self._buffers.items() if index in places}

    def to_bytes(self) -> bytes:
        """The model as a file holds it: what graphs of several sizes have in common is written once."""
        root = copy.copy(self.root)
        root.subgraphs = []
        for graph in self.graphs:
            graph = copy.copy(graph)
            graph.tensors, graph.operators = _once(graph.tensors), _once(graph.operators)
            root.subgraphs.append(graph)
        builder = _Builder()
        builder.Finish(root.Pack(builder), IDENTIFIER)
        return bytes(builder.Output())


@dataclass(frozen=True)
class _Once:
    """A table of the schema, written where it is first met; whatever is equal to it points there."""

    table: Any
    mark: Any

    def Pack(self, builder: _Builder) -> int:  # noqa: N802 - the schema's own name
        """Where the table stands in the file."""
        if self.mark not in builder.places:
            builder.places[self.mark] = self.table.Pack(builder)
        return builder.places[self.mark]


def _once(tables: Sequence[Any]) -> list[_Once]:
    return [_Once(table, _mark(table)) for table in tables]


def _mark(value: Any) -> Any:
    """What equal tables, vectors and numbers of the schema have in common."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.tobytes()
    if isinstance(value, list):
        return tuple(_mark(each) for each in value)
    if hasattr(value, "Pack"):
        return type(value).__name__, *(_mark(each) for each in vars(value).values())
    return value


def scales_of(scale: NDArray[Any], axis: int, zero_point: int = 0) -> Any:
    """Quantization parameters of a tensor; the format asks for a zero point of 8 bytes for each scale."""
    parameters = schema.QuantizationParametersT()
    parameters.scale = scale.astype(np.float32).reshape(-1)
    parameters.zeroPoint = np.full(len(parameters.scale), zero_point, np.int64)
    parameters.quantizedDimension = axis
    return parameters


def content_hash(content: bytes) -> str:
    """What equal constants have in common."""
    return hashlib.sha256(content).hexdigest()
