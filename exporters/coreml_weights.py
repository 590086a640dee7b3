"""Quantized weights in an ML Program: the bundle's own whole numbers and scales.

8 and 4 bits become ``constexpr_blockwise_shift_scale``: whole numbers, and a scale for each block of every
axis. A matrix whose last groups are shorter gets columns of zeros behind them, and so do its inputs. A group
of a convolution that ends within a row makes the blocks of that row as small as the largest that divides all
groups, and a scale is repeated for each; groups that run across its window become a matrix and a Reshape.
2 bits become a palette of -1, 0 and 1 for the tensor (``constexpr_lut_to_dense``), scaled by channel: a
palette for each channel would take four times the bytes of a scale.

In a float16 program scales are float16: those of 8 bits, float32 in the bundle, lose at most 2^-11 of
themselves, or 2^-25 where they are smaller than 6e-5. Whole numbers are never touched.
"""

from __future__ import annotations

import hashlib
import math
import string
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobile_multimodal.errors import MissingExtraError, UsageError
from mobile_multimodal.quantized_tensor import InputGrid, QuantizedTensor, from_channels
from mobile_multimodal.weight_files import StoredTensor

try:
    from coremltools.converters.mil.mil import Builder, types
except ImportError as exc:
    raise MissingExtraError("coremltools", "export") from exc

__all__ = ["merge_constants", "program_name", "share_constants", "shorten_names", "store_weights"]

MULTIPLIED = {"conv": "x", "conv_transpose": "x", "linear": "x", "matmul": "x"}
"""Operations that multiply by a weight, and the name of what they multiply."""
WINDOWED = {"conv", "conv_transpose"}
"""Operations whose weight Core ML also takes computed, not only constant."""
NAMED = {"constexpr_affine_dequantize", "constexpr_blockwise_shift_scale"}
"""Operations that give a quantized weight, under the bundle's name for it."""
SMALLEST_BLOCK = 8
"""Weights for each scale below which the repeated scales would outweigh the weights."""
TERNARY = np.array([0, -1, 0, 1])
"""The palette of 2 bits; an index is the bundle's own code, ``q + 2``, so the first level is never used."""
Fingerprint = tuple[int, str]
"""Number and hash of a weight's floats."""


def store_weights(
    function: Any, tensors: Mapping[str, StoredTensor], *, half: bool = True, blockwise: bool = True
) -> None:
    """Store these weights of a converted float function as the bundle has them, in place.

    The converter renames, reshapes and transposes weights, so they are found by what they hold. ``half``
    says that the function computes in float16; ``blockwise`` False stands for iOS 17, which knows 8 bits by
    channel alone.

    Raises:
        UsageError: a weight that the function does not hold, or that it cannot store without loss.
    """
    wanted: dict[Fingerprint, tuple[str, QuantizedTensor, bool]] = {}
    missing = {}
    for name, tensor in tensors.items():
        if not isinstance(tensor, QuantizedTensor):
            continue
        if not blockwise and (tensor.scheme.bits != 8 or tensor.scheme.group_size):
            raise UsageError(f"{name}: iOS 17 stores no {_words(tensor)}", remedy="deployment target iOS18")
        weight = tensor.dequantize().astype(np.float16 if half else np.float32)
        places = {_fingerprint(weight): False}
        if weight.ndim == 2:
            places.setdefault(_fingerprint(weight.T), True)
        wanted |= {place: (name, tensor, turned) for place, turned in places.items()}
        missing[name] = places.keys()
    held = set()
    with function:
        for op in [op for op in function.operations if op.op_type == "const"]:
            place = op.outputs[0]
            if not isinstance(place.val, np.ndarray) or place.val.dtype.kind != "f" or not place.child_ops:
                continue
            found = _fingerprint(place.val)
            if found in wanted:
                name, tensor, turned = wanted[found]
                identifier = program_name(name) if found not in held else f"{program_name(name)}_{op.name}"
                held.add(found)
                stored = _stored(op, name, identifier, tensor, turned, blockwise)
                if stored.shape != place.shape:
                    _pad_inputs(function, place, stored.shape[1])
                if tensor.input_grid is not None:
                    _round_inputs(function, place, name, tensor.input_grid)
            elif not half and place.val.ndim > 1 and _is_half(place.val):
                narrow = place.val.astype(np.float16)
                stored = Builder.constexpr_cast(source_val=narrow, output_dtype="fp32", before_op=op)
            else:
                continue
            function.replace_uses_of_var_after_op(
                anchor_op=stored.op, old_var=place, new_var=stored, no_check_var_types=True
            )
            function.remove_ops([op])
    if lost := [name for name, prints in missing.items() if not prints & held]:
        raise UsageError(
            f"the converted program holds no weight {lost[0]}", remedy="convert the bundle's own network"
        )


def program_name(tensor: str) -> str:
    """The name of a bundle's tensor as an identifier of MIL, which has no dots."""
    return tensor.replace(".", "_")


def _stored(
    op: Any, name: str, identifier: str, tensor: QuantizedTensor, turned: bool, blockwise: bool
) -> Any:
    """The variable that takes the constant's place, ahead of it."""
    place = op.outputs[0]
    dtype, shape = place.val.dtype, place.val.shape
    channels, groups = tensor.scale.shape
    values = tensor.values()
    # The group of every weight, laid out as the program has the weight: its blocks follow from the layout.
    width = tensor.scheme.group_size or tensor.columns
    group = np.arange(channels)[:, None] * groups + np.arange(tensor.columns) // width  # [channels, columns]
    laid = [from_channels(x, tensor.shape, tensor.axis) for x in (values, group)]
    levels, owners = (np.ascontiguousarray(x.T if turned else x).reshape(shape) for x in laid)
    if not blockwise:
        return _by_channel(op, identifier, tensor, levels, owners, dtype)
    if tensor.columns % width and shape == tensor.shape and not turned and _is_matrix_of_products(place):
        behind = ((0, 0), (0, -tensor.columns % width))
        levels, owners = np.pad(levels, behind), np.pad(owners, behind, mode="edge")
    blocks = _blocks(owners)
    if _fits(blocks, owners, tensor):
        return _scaled(op, identifier, tensor, levels, owners, blocks, dtype)
    if turned or shape != tensor.shape or any(reader.op_type not in WINDOWED for reader in place.child_ops):
        raise _refusal(name, tensor)
    blocks = _blocks(group)
    if not _fits(blocks, group, tensor):
        raise _refusal(name, tensor)
    matrix = _scaled(op, identifier, tensor, values, group, blocks, dtype)
    moved = (shape[tensor.axis], *(size for i, size in enumerate(shape) if i != tensor.axis))
    weight = Builder.reshape(x=matrix, shape=moved, name=f"{identifier}_shaped", before_op=op)
    if tensor.axis:
        order = [*range(1, tensor.axis + 1), 0, *range(tensor.axis + 1, len(shape))]
        weight = Builder.transpose(x=weight, perm=order, name=f"{identifier}_turned", before_op=op)
    return weight


def _is_matrix_of_products(place: Any) -> bool:
    return all(op.op_type == "linear" and op.inputs["weight"] is place for op in place.child_ops)


def _blocks(owners: NDArray[np.int64]) -> tuple[int, ...]:
    """The largest block along each axis within which no weight changes its group."""
    sizes = []
    for axis, size in enumerate(owners.shape):
        others = tuple(i for i in range(owners.ndim) if i != axis)
        changes = np.flatnonzero((np.diff(owners, axis=axis) != 0).any(axis=others)) + 1
        sizes.append(math.gcd(size, *(int(change) for change in changes)))
    return tuple(sizes)


def _fits(blocks: tuple[int, ...], owners: NDArray[np.int64], tensor: QuantizedTensor) -> bool:
    scales = owners.size // math.prod(blocks)
    return scales == tensor.scale.size or math.prod(blocks) >= SMALLEST_BLOCK


def _scaled(
    op: Any,
    identifier: str,
    tensor: QuantizedTensor,
    levels: NDArray[np.int8],
    owners: NDArray[np.int64],
    blocks: tuple[int, ...],
    dtype: np.dtype[Any],
) -> Any:
    first = owners[tuple(slice(None, None, block) for block in blocks)]
    scale = tensor.scale.reshape(-1)[first].astype(dtype)
    if tensor.scheme.bits == 2:
        data = Builder.constexpr_lut_to_dense(
            indices=(levels + 2).astype(types.np_uint2_dtype),
            lut=TERNARY.astype(dtype).reshape((1,) * levels.ndim + (4, 1)),
            name=f"{identifier}_levels",
            before_op=op,
        )
    else:
        data = levels if tensor.scheme.bits == 8 else levels.astype(types.np_int4_dtype)
    return Builder.constexpr_blockwise_shift_scale(data=data, scale=scale, name=identifier, before_op=op)


def _by_channel(
    op: Any,
    identifier: str,
    tensor: QuantizedTensor,
    levels: NDArray[np.int8],
    owners: NDArray[np.int64],
    dtype: np.dtype[Any],
) -> Any:
    """What iOS 16 and 17 have for 8 bits."""
    axes = [axis for axis, block in enumerate(_blocks(owners)) if block < owners.shape[axis]]
    return Builder.constexpr_affine_dequantize(
        quantized_data=levels,
        scale=tensor.scale.reshape(-1).astype(dtype),
        zero_point=np.int8(0),
        axis=axes[0] if axes else 0,
        name=identifier,
        before_op=op,
    )


def _pad_inputs(function: Any, place: Any, columns: int) -> None:
    """Let every product by this weight read its input with zeros behind it, as many as the weight has."""
    for op in list(place.child_ops):
        read = op.inputs["x"]
        zero = types.nptype_from_builtin(read.dtype)(0)
        padded = Builder.pad(
            x=read, pad=[0, columns - read.shape[-1]], mode="constant", constant_val=zero, before_op=op
        )
        function.replace_uses_of_var_after_op(
            anchor_op=padded.op, old_var=read, new_var=padded, end_op=op, no_check_var_types=True
        )


def _round_inputs(function: Any, place: Any, name: str, grid: InputGrid) -> None:
    """Let every operation that multiplies by this weight read its input rounded to the grid."""
    readers = [op for op in place.child_ops if op.op_type in MULTIPLIED]
    if not readers:
        raise UsageError(f"{name}: the program has no layer whose inputs could be rounded")
    for op in readers:
        read = op.inputs[MULTIPLIED[op.op_type]]
        half = types.builtin_to_string(read.dtype) == "fp16"
        constants = {
            "scale": np.float16(grid.scale) if half else np.float32(grid.scale),
            "zero_point": np.uint8(grid.zero_point),
        }
        whole = Builder.quantize(
            input=read, output_dtype="uint8", name=f"{op.name}_input_uint8", before_op=op, **constants
        )
        rounded = Builder.dequantize(input=whole, name=f"{op.name}_input", before_op=op, **constants)
        function.replace_uses_of_var_after_op(
            anchor_op=rounded.op, old_var=read, new_var=rounded, end_op=op, no_check_var_types=True
        )


def share_constants(program: Any) -> None:
    """Let constants of equal content take their bytes once, in all functions, in place."""
    for function in program.functions.values():
        for op in function.operations:
            if op.op_type == "const" and isinstance(op.outputs[0].val, np.ndarray):
                value = op.outputs[0].val
                kind = types.builtin_to_string(op.outputs[0].dtype)
                op.weight_id = f"{kind} {value.shape} {_fingerprint(value)[1]}"


def merge_constants(function: Any) -> None:
    """Let equal constants of a function be one, in place: each convolution brings strides and pads."""
    first: dict[Any, Any] = {}
    for op in [op for op in function.operations if op.op_type == "const"]:
        value = op.outputs[0]
        if value in function.outputs:
            continue
        content = value.val.tobytes() if isinstance(value.val, np.ndarray) else value.val
        kept = first.setdefault((value.dtype, value.shape, content), value)
        if kept is not value:
            function.replace_uses_of_var_after_op(anchor_op=kept.op, old_var=value, new_var=kept)
            function.remove_ops([op])


def shorten_names(function: Any) -> None:
    """Number what a function computes, in place; inputs, outputs and stored weights keep their names.

    A weight's name is that of its operation; what reads it knows its number. Some thousand numbers have two
    characters, a small letter ahead of a digit or a capital, so that none is a word of MIL.
    """
    outputs = set(function.outputs)
    for number, op in enumerate(function.operations):
        if outputs & set(op.outputs):
            continue
        short = string.ascii_lowercase[number % 26] + np.base_repr(number // 26, 36)
        if op.op_type not in NAMED:
            op.name = short
        for position, value in enumerate(op.outputs):
            value.name = short if position == 0 else f"{short}_{position}"


def _is_half(value: NDArray[Any]) -> bool:
    return bool((value.astype(np.float16).astype(np.float32) == value).all())


def _refusal(name: str, tensor: QuantizedTensor) -> UsageError:
    return UsageError(
        f"{name} {tensor.shape}: Core ML cannot store its {_words(tensor)} without loss",
        remedy="quantize it by channel",
    )


def _words(tensor: QuantizedTensor) -> str:
    width = tensor.scheme.group_size
    return f"{tensor.scheme.bits} bits {'by channel' if width is None else f'in groups of {width}'}"


def _fingerprint(weight: NDArray[Any]) -> Fingerprint:
    return weight.size, hashlib.sha256(np.ascontiguousarray(weight).tobytes()).hexdigest()
