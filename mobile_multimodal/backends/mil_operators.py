"""The operations of Core ML's ML Programs in torch: a plain function for each, as the MIL reference has it.

Arguments come by MIL's names: tensors, numbers among them, as tensors; strings as strings; what an operation
leaves out as None. Half precision is computed in float32; whoever calls rounds the result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mobile_multimodal.errors import MissingExtraError

try:
    import torch
    from torch import Tensor
    from torch.nn import functional

    from mobile_multimodal.backends.mil_layers import (
        conv,
        conv_transpose,
        dequantize,
        ints,
        layer_norm,
        linear,
        matmul,
        pad_tensor,
        pool,
        quantize,
        scaled_dot_product_attention,
        upsample_nearest_neighbor,
    )
except ImportError as exc:
    raise MissingExtraError("torch", "export") from exc

__all__ = ["DTYPES", "OPERATORS", "Operator"]

Operator = Callable[..., Any]
"""Arguments by MIL's names → a tensor, or a list of them where the operation has several outputs."""

DTYPES = {
    "fp16": torch.float32,
    "fp32": torch.float32,
    "int8": torch.int8,
    "uint8": torch.uint8,
    "int16": torch.int16,
    "uint16": torch.int32,
    "int32": torch.int32,
    "bool": torch.bool,
}
"""In what torch holds a type of MIL; half precision in float32, and 16 bits without a sign in 32."""


def _flags(flags: Tensor | None, count: int) -> list[bool]:
    return [False] * count if flags is None else [bool(flag) for flag in flags.flatten().tolist()]


def _unary(function: Callable[[Tensor], Tensor]) -> Operator:
    def operator(*, x: Tensor) -> Tensor:
        return function(x)

    return operator


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    def operator(*, x: Tensor, y: Tensor) -> Tensor:
        return function(x, y)

    return operator


def _cast(*, x: Tensor, dtype: str) -> Tensor:
    return x.to(DTYPES[dtype])


def _gelu(*, x: Tensor, mode: str) -> Tensor:
    if mode == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(1.702 * x)
    return functional.gelu(x, approximate="tanh" if mode == "TANH_APPROXIMATION" else "none")


def _clip(*, x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    return x.clamp(float(alpha), float(beta))


def _softmax(*, x: Tensor, axis: Tensor) -> Tensor:
    return torch.softmax(x, int(axis))


def _select(*, cond: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(cond, a, b)


def _reduce_mean(*, x: Tensor, keep_dims: Tensor, axes: Tensor | None = None) -> Tensor:
    return x.mean(None if axes is None else ints(axes), keepdim=bool(keep_dims))


def _reshape(*, x: Tensor, shape: Tensor) -> Tensor:
    sizes = ints(shape)
    return x.reshape([x.shape[i] if size == 0 else size for i, size in enumerate(sizes)])


def _transpose(*, x: Tensor, perm: Tensor) -> Tensor:
    return x.permute(ints(perm))


def _squeeze(*, x: Tensor, axes: Tensor | None = None) -> Tensor:
    return x.squeeze() if axes is None else x.squeeze(ints(axes))


def _stack(*, values: Sequence[Tensor], axis: Tensor) -> Tensor:
    return torch.stack(list(values), int(axis))


def _concat(*, values: Sequence[Tensor], axis: Tensor, interleave: Tensor) -> Tensor:
    if interleave:
        raise NotImplementedError("concat that interleaves")
    return torch.cat(list(values), int(axis))


def _split(
    *, x: Tensor, axis: Tensor, num_splits: Tensor | None = None, split_sizes: Tensor | None = None
) -> list[Tensor]:
    if split_sizes is not None:
        return list(torch.split(x, ints(split_sizes), int(axis)))
    assert num_splits is not None
    return list(torch.split(x, x.shape[int(axis)] // int(num_splits), int(axis)))


def _gather(
    *,
    x: Tensor,
    indices: Tensor,
    axis: Tensor,
    batch_dims: Tensor | None = None,
    validate_indices: Any = None,
) -> Tensor:
    if batch_dims is not None and int(batch_dims):
        raise NotImplementedError("gather by batch")
    along = int(axis) % x.dim()
    found = torch.index_select(x, along, indices.reshape(-1).long())
    return found.reshape(*x.shape[:along], *indices.shape, *x.shape[along + 1 :])


def _slice_by_index(
    *,
    x: Tensor,
    begin: Tensor,
    end: Tensor,
    stride: Tensor | None = None,
    begin_mask: Tensor | None = None,
    end_mask: Tensor | None = None,
    squeeze_mask: Tensor | None = None,
) -> Tensor:
    rank = x.dim()
    steps = [1] * rank if stride is None else ints(stride)
    if min(steps) < 1:
        raise NotImplementedError("slice_by_index backwards")
    opened, closed, single = (_flags(mask, rank) for mask in (begin_mask, end_mask, squeeze_mask))
    first, last = ints(begin), ints(end)
    return x[
        tuple(
            first[i]
            if single[i]
            else slice(None if opened[i] else first[i], None if closed[i] else last[i], steps[i])
            for i in range(rank)
        )
    ]


OPERATORS: Mapping[str, Operator] = {
    "add": _binary(torch.add),
    "avg_pool": pool(functional.avg_pool2d, 0.0),
    "cast": _cast,
    "clip": _clip,
    "concat": _concat,
    "conv": conv,
    "conv_transpose": conv_transpose,
    "dequantize": dequantize,
    "gather": _gather,
    "gelu": _gelu,
    "greater_equal": _binary(torch.ge),
    "layer_norm": layer_norm,
    "linear": linear,
    "matmul": matmul,
    "max_pool": pool(functional.max_pool2d, float("-inf")),
    "mul": _binary(torch.mul),
    "pad": pad_tensor,
    "quantize": quantize,
    "real_div": _binary(torch.div),
    "reduce_mean": _reduce_mean,
    "relu": _unary(functional.relu),
    "relu6": _unary(functional.relu6),
    "reshape": _reshape,
    "scaled_dot_product_attention": scaled_dot_product_attention,
    "select": _select,
    "sigmoid": _unary(torch.sigmoid),
    "silu": _unary(functional.silu),
    "slice_by_index": _slice_by_index,
    "softmax": _softmax,
    "split": _split,
    "squeeze": _squeeze,
    "stack": _stack,
    "sub": _binary(torch.sub),
    "tanh": _unary(torch.tanh),
    "transpose": _transpose,
    "upsample_nearest_neighbor": upsample_nearest_neighbor,
}
