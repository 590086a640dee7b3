"""A Core ML program as graphs of operators."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from exporters.placement.graph_reader import Graph, Operator, Tensor, mark_constants
from mobile_multimodal.errors import BundleError, MissingExtraError

try:
    # It warns of the libraries that only a Mac has; its messages would stand among the results.
    logging.getLogger("coremltools").setLevel(logging.ERROR)
    from coremltools.proto import MIL_pb2, Model_pb2
    from google.protobuf.message import DecodeError
except ImportError as exc:
    raise MissingExtraError(exc.name or "coremltools", "export") from exc

__all__ = ["parse_coreml"]


def parse_coreml(content: bytes, path: Path) -> tuple[Graph, ...]:
    """The functions of a Core ML program; ``path`` is for messages.

    Raises:
        BundleError: it is no Core ML model, or one of the older kind without a program.
    """
    try:
        model = Model_pb2.Model.FromString(content)
    except DecodeError as exc:
        raise BundleError(f"{path} is not a Core ML model: {exc}") from exc
    if model.WhichOneof("Type") != "mlProgram":
        raise BundleError(f"{path} holds no ML program: {model.WhichOneof('Type') or 'nothing'}")
    functions = sorted(model.mlProgram.functions.items())
    return tuple(_graph(name, function) for name, function in functions)


def _graph(name: str, function: Any) -> Graph:
    block = function.block_specializations[function.opset]
    tensors = {value.name: _tensor(value) for value in function.inputs}
    constants: dict[str, str] = {}
    operators: list[Operator] = []
    for operation in block.operations:
        outputs = tuple(_tensor(value) for value in operation.outputs)
        tensors |= {tensor.name: tensor for tensor in outputs}
        if operation.type == "const":
            constants |= {tensor.name: tensor.dtype for tensor in outputs}
            continue
        inputs = []
        for argument in _arguments(operation):
            if argument.WhichOneof("binding") == "name":
                inputs.append(tensors.get(argument.name, Tensor(argument.name, None, "unknown")))
            else:
                literal = f"literal {len(constants)} of {operation.type}"
                value = Tensor(literal, *_kind(argument.value.type))
                constants[literal] = value.dtype
                inputs.append(value)
        operators.append(Operator(outputs[0].name if outputs else "", operation.type, tuple(inputs), outputs))
    names = tuple(value.name for value in function.inputs)
    return Graph(name, mark_constants(operators, constants), names, tuple(block.outputs))


def _arguments(operation: Any) -> Iterator[Any]:
    """What an operation reads: ``x`` first, then by name, since the file keeps no order."""
    for name in sorted(operation.inputs, key=lambda name: (name != "x", name)):
        yield from operation.inputs[name].arguments


def _tensor(value: Any) -> Tensor:
    return Tensor(value.name, *_kind(value.type))


def _kind(kind: Any) -> tuple[tuple[int | str, ...] | None, str]:
    if kind.WhichOneof("type") != "tensorType":
        return None, "unknown"
    sizes = tuple(
        int(size.constant.size) if size.WhichOneof("dimension") == "constant" else "?"
        for size in kind.tensorType.dimensions
    )
    return sizes, MIL_pb2.DataType.Name(kind.tensorType.dataType).lower()
