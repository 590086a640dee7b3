"""Attention, normalisation and means in such steps that converters keep weights and digits.

LiteRT's converter multiplies constants that stand beside a matrix product into its weights: the scale of
attention into the query's, the factors of a normalisation into those of the layer behind it. Floats stand
that; whole numbers of a quantized bundle would no longer be found.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

__all__ = ["PlainMath", "attention", "layer_norm", "mean"]

BEYOND = 3.0e38
"""A bound that no value reaches, so that the minimum with it changes nothing and stands in the way."""


def attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **options: Any
) -> Tensor:
    """softmax(q kᵀ / √d + mask) v, the scale applied to the scores: [B, H, S, d] → [B, H, S, d]."""
    if options:
        raise NotImplementedError(f"attention with {', '.join(options)}")
    scores = (query @ key.transpose(-2, -1)) * (1.0 / math.sqrt(query.shape[-1]))
    if attn_mask is not None:
        scores = scores + attn_mask
    return scores.softmax(-1) @ value


def layer_norm(
    x: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalisation over the last axis, its factors kept apart from the layer behind it."""
    if len(normalized_shape) != 1 or weight is None or bias is None:
        raise NotImplementedError("a normalisation over several axes or without factors")
    centred = x - x.mean(-1, keepdim=True)
    normal = centred * torch.rsqrt((centred * centred).mean(-1, keepdim=True) + eps)
    return torch.clamp(normal * weight + bias, max=BEYOND)


def mean(x: Tensor, dim: int | Sequence[int] | None = None, keepdim: bool = False) -> Tensor:
    """The mean over one axis after the other, from the last: a sum over a whole map loses four digits."""
    if dim is None or isinstance(dim, int):
        return x.sum(dim, keepdim=keepdim) / (x.numel() if dim is None else x.shape[dim])
    for axis in sorted((axis % x.ndim for axis in dim), reverse=True):
        x = x.sum(axis, keepdim=keepdim) / x.shape[axis]
    return x


PLAIN: Mapping[Any, Callable[..., Tensor]] = {
    functional.scaled_dot_product_attention: attention,
    functional.layer_norm: layer_norm,
    torch.Tensor.mean: mean,
}


class PlainMath(TorchFunctionMode):
    """While it lasts, torch computes attention and layer normalisation in these steps."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return PLAIN.get(func, func)(*args, **(kwargs or {}))
