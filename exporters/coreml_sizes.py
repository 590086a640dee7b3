"""One network converted at several sizes of its pixels → a single function whose sizes vary.

Core ML prepares a function for each of a list of input sizes ("enumerated shapes"), on every processor, so
that a network need not be written once for each. What a converter writes at two sizes tells what follows the
size: the shapes that tensors are brought to. A function in which anything else differs is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporters.fixed_graphs import FixedGraph
from mobile_multimodal.errors import MissingExtraError

try:
    from coremltools.converters.mil.mil import Builder, get_new_symbol, types
except ImportError as exc:
    raise MissingExtraError("coremltools", "export") from exc

__all__ = ["PIXELS", "join_sizes", "telling_graphs"]

PIXELS = "pixel_values"
"""The input whose sizes may vary. Up to iOS 17 only one input may, and only pixels come alone."""
SIZED: Mapping[str, str] = {"reshape": "shape", "conv_transpose": "output_shape"}
"""Operations that can find the size of their output, and the argument by which converters tell them."""


def telling_graphs(graphs: Sequence[FixedGraph]) -> Sequence[FixedGraph]:
    """The fewest graphs, the first among them, that show every size that varies at two values.

    Empty where there is nothing to join: a single graph, or graphs that read more than pixels.
    """
    if len(graphs) < 2 or any(set(graph.inputs) != {PIXELS} for graph in graphs):
        return ()
    shapes = [tuple(graph.inputs[PIXELS].shape) for graph in graphs]
    varying = {axis for axis, sizes in enumerate(zip(*shapes, strict=True)) if len(set(sizes)) > 1}
    told = [graphs[0]]
    for graph, shape in reversed([*zip(graphs, shapes, strict=True)][1:]):
        if shown := {axis for axis in varying if shape[axis] != shapes[0][axis]}:
            told.append(graph)
            varying -= shown
    return told


def join_sizes(functions: Sequence[Any]) -> Any:
    """The first of these functions, its sizes made variable in place; None where they differ in more.

    ``functions`` are those of :func:`telling_graphs`, as converted; None leaves the first of no use.
    """
    first, *others = functions
    if len({tuple(op.op_type for op in function.operations) for function in functions}) > 1:
        return None
    rows = [*zip(*(function.operations for function in functions), strict=True)]
    sized = [row for row in rows if row[0].op_type == "const" and _differ(row)]
    if not all(_follows_size(reader, row) for row in sized for reader in row[0].outputs[0].child_ops):
        return None
    with first:
        for row in sized:
            for reader in list(row[0].outputs[0].child_ops):
                _let_follow(first, reader, row)
            first.remove_ops([row[0]])
        given = first.inputs[PIXELS]
        shapes = zip(given.shape, *(other.inputs[PIXELS].shape for other in others), strict=True)
        free = [sizes[0] if len(set(sizes)) == 1 else get_new_symbol() for sizes in shapes]
        given._sym_type = types.tensor(given.dtype, free)
        try:
            for op in first.operations:
                op.type_value_inference(overwrite_output=True)
        except ValueError:  # an operation that takes no sizes that vary
            return None
    return first


def _differ(row: Sequence[Any]) -> bool:
    first, *others = (op.outputs[0].val for op in row)
    return not all(np.array_equal(first, other) for other in others)


def _follows_size(reader: Any, row: Sequence[Any]) -> bool:
    """Whether this operation can find by itself what the constant says."""
    sized = SIZED.get(reader.op_type)
    if sized is None or reader.inputs.get(sized) is not row[0].outputs[0]:
        return False
    return reader.op_type != "reshape" or int((_free_shape(row) < 0).sum()) == 1


def _let_follow(function: Any, reader: Any, row: Sequence[Any]) -> None:
    """Put an operation that finds its size in the place of one that is told."""
    arguments = {name: value for name, value in reader.inputs.items() if name != SIZED[reader.op_type]}
    if reader.op_type == "reshape":
        arguments["shape"] = _free_shape(row)
    found = getattr(Builder, reader.op_type)(**arguments, before_op=reader)
    told, name = reader.outputs[0], reader.name
    function.replace_uses_of_var_after_op(
        anchor_op=found.op, old_var=told, new_var=found, no_check_var_types=True
    )
    function.remove_ops([reader])
    found.op.name, found.name = name, told.name


def _free_shape(row: Sequence[Any]) -> NDArray[np.int32]:
    """What several shapes have in common, and -1 where they differ."""
    first, *others = (op.outputs[0].val for op in row)
    same = np.all([other == first for other in others], axis=0)
    return np.where(same, first, -1).astype(np.int32)
