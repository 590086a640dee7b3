"""A TFLite file as graphs of operators."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from exporters.placement.graph_reader import Graph, Operator, Tensor, mark_constants
from mobile_multimodal.errors import BundleError, MissingExtraError

try:
    from ai_edge_litert import schema_py_generated as schema
except ImportError as exc:
    raise MissingExtraError("ai-edge-litert", "export") from exc

__all__ = ["parse_tflite"]

_OPS = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
_DTYPES = {value: name.lower() for name, value in vars(schema.TensorType).items() if isinstance(value, int)}


def parse_tflite(content: bytes, path: Path) -> tuple[Graph, ...]:
    """The graphs that a TFLite file offers to callers; ``path`` is for messages.

    Raises:
        BundleError: it is not TFLite, or cut off.
    """
    if len(content) < 8 or not schema.Model.ModelBufferHasIdentifier(content, 0):
        raise BundleError(f"{path} is not a TFLite file")
    try:
        model = schema.ModelT.InitFromPackedBuf(content, 0)
    except (struct.error, ValueError, TypeError, IndexError) as exc:
        raise BundleError(f"{path} cannot be read as TFLite: {exc}") from exc
    # The others are bodies of operators such as While.
    offered = {row.subgraphIndex for row in model.signatureDefs or ()} or {0}
    return tuple(_graph(model, model.subgraphs[index]) for index in sorted(offered))


def _graph(model: Any, subgraph: Any) -> Graph:
    tensors = [_tensor(row, index) for index, row in enumerate(subgraph.tensors)]
    constants = {
        tensor.name: tensor.dtype
        for tensor, row in zip(tensors, subgraph.tensors, strict=True)
        if _is_constant(model, row)
    }
    operators = []
    for index, row in enumerate(subgraph.operators):
        code = model.operatorCodes[row.opcodeIndex]
        # The older field has room for 127 operators only.
        op = _OPS.get(max(code.builtinCode, code.deprecatedBuiltinCode), "UNKNOWN")
        custom = f":{_text(code.customCode)}" if op == "CUSTOM" else ""
        operators.append(
            Operator(
                name=str(index),
                op=op + custom,
                inputs=tuple(tensors[i] if i >= 0 else None for i in _list(row.inputs)),
                outputs=tuple(tensors[i] for i in _list(row.outputs)),
                version=code.version,
            )
        )
    inputs = tuple(tensors[i].name for i in _list(subgraph.inputs))
    outputs = tuple(tensors[i].name for i in _list(subgraph.outputs))
    return Graph(_text(subgraph.name) or "main", mark_constants(operators, constants), inputs, outputs)


def _tensor(row: Any, index: int) -> Tensor:
    # The number is part of the name because names need not be unique.
    sizes = _list(row.shape if row.shapeSignature is None else row.shapeSignature)
    shape = tuple("?" if size < 0 else int(size) for size in sizes)
    return Tensor(f"{index} {_text(row.name)}", shape, _DTYPES.get(row.type, "unknown"))


def _is_constant(model: Any, row: Any) -> bool:
    if row.isVariable or not row.buffer:
        return False
    buffer = model.buffers[row.buffer]
    # Files above 2 GiB hold their weights behind the model, at an offset.
    return bool(buffer.size) or (buffer.data is not None and len(buffer.data) > 0)


def _list(value: Any) -> list[int]:
    return [] if value is None else list(value)


def _text(value: bytes | str | None) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""
