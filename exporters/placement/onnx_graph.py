"""An ONNX file as a graph of operators."""

from __future__ import annotations

from pathlib import Path

from exporters.placement.graph_reader import Graph, Operator, Tensor, mark_constants
from mobile_multimodal.errors import BundleError, MissingExtraError

try:
    import onnx
    from google.protobuf.message import DecodeError
    from onnx import TensorProto, helper
except ImportError as exc:
    raise MissingExtraError(exc.name or "onnx", "export") from exc

__all__ = ["onnx_graph", "parse_onnx"]

_DTYPES = {"FLOAT": "float32", "DOUBLE": "float64"}


def parse_onnx(content: bytes, path: Path) -> tuple[Graph, ...]:
    """The one graph of an ONNX file; ``path`` is for messages.

    Raises:
        BundleError: it is not ONNX, or its shapes contradict each other.
    """
    try:
        model = onnx.ModelProto.FromString(content)
    except DecodeError as exc:
        raise BundleError(f"{path} is not an ONNX file: {exc}") from exc
    if not model.graph.node:
        raise BundleError(f"{path} is not an ONNX file, or holds no operator")
    try:
        return (onnx_graph(model),)
    except (onnx.shape_inference.InferenceError, ValueError) as exc:
        raise BundleError(f"{path}: its shapes cannot be worked out: {exc}") from exc


def onnx_graph(model: onnx.ModelProto) -> Graph:
    """The main graph of a model, shapes inferred; the bodies of If and Loop are not looked into.

    Raises:
        InferenceError: shapes that contradict each other.
    """
    graph = model.graph
    shapes = _shapes(model)
    constants = {weight.name: _dtype(weight.data_type) for weight in graph.initializer}
    for weight in graph.initializer:
        shapes[weight.name] = (tuple(weight.dims), _dtype(weight.data_type))
    for node in graph.node:
        if node.op_type == "Constant":
            constants |= {name: shapes.get(name, (None, "unknown"))[1] for name in node.output}
        if bits := _attribute(node, "bits"):
            # MatMulNBits holds its weights as bytes with several numbers each.
            constants[node.input[1]] = f"int{bits}"

    def tensor(name: str) -> Tensor:
        return Tensor(name, *shapes.get(name, (None, "unknown")))

    versions = {entry.domain: entry.version for entry in model.opset_import}
    operators = [
        Operator(
            name=node.name,
            op=f"{node.domain}:{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type,
            inputs=tuple(tensor(name) if name else None for name in node.input),
            outputs=tuple(tensor(name) for name in node.output if name),
            version=versions.get(node.domain, 1),
        )
        for node in graph.node
        if node.op_type != "Constant"
    ]
    inputs = tuple(value.name for value in graph.input if value.name not in constants)
    outputs = tuple(value.name for value in graph.output)
    return Graph(graph.name, mark_constants(operators, constants), inputs, outputs)


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[tuple[int | str, ...] | None, str]]:
    inferred = onnx.shape_inference.infer_shapes(_with_plain_matmuls(model), data_prop=True).graph
    shapes: dict[str, tuple[tuple[int | str, ...] | None, str]] = {}
    for value in (*inferred.value_info, *inferred.input, *inferred.output):
        kind = value.type.tensor_type
        sizes = [
            size.dim_value if size.HasField("dim_value") else size.dim_param or "?" for size in kind.shape.dim
        ]
        shapes[value.name] = (tuple(sizes) if kind.HasField("shape") else None, _dtype(kind.elem_type))
    return shapes


def _with_plain_matmuls(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which MatMulNBits, whose shapes onnx cannot infer, is a MatMul of the same sizes."""
    if not any(node.op_type == "MatMulNBits" for node in model.graph.node):
        return model
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    for index, node in enumerate(plain.graph.node):
        if node.op_type != "MatMulNBits":
            continue
        matrix = f"{node.output[0]}: its matrix"
        sizes = [_attribute(node, "K"), _attribute(node, "N")]
        plain.graph.input.append(helper.make_tensor_value_info(matrix, TensorProto.FLOAT, sizes))
        matmul = helper.make_node("MatMul", [node.input[0], matrix], list(node.output))
        plain.graph.node[index].CopyFrom(matmul)
    return plain


def _attribute(node: onnx.NodeProto, name: str) -> int:
    """A whole-number attribute of a MatMulNBits node; 0 for any other node."""
    found = [row.i for row in node.attribute if node.op_type == "MatMulNBits" and row.name == name]
    return found[0] if found else 0


def _dtype(number: int) -> str:
    if number == TensorProto.UNDEFINED:
        return "unknown"
    name: str = TensorProto.DataType.Name(number)
    return _DTYPES.get(name, name.lower())
