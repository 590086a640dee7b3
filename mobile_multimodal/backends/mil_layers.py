"""The layers of Core ML's ML Programs in torch: what multiplies, filters, norms or rounds.

Conventions as in :mod:`mobile_multimodal.backends.mil_operators`, whose table names these functions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mobile_multimodal.errors import MissingExtraError

try:
    import torch
    from torch import Tensor
    from torch.nn import functional
except ImportError as exc:
    raise MissingExtraError("torch", "export") from exc

__all__ = [
    "conv",
    "conv_transpose",
    "dequantize",
    "ints",
    "layer_norm",
    "linear",
    "matmul",
    "pad_tensor",
    "pool",
    "quantize",
    "scaled_dot_product_attention",
    "upsample_nearest_neighbor",
]

WHOLE = {"int8": torch.int8, "uint8": torch.uint8}
"""The types that :func:`quantize` rounds to."""


def ints(numbers: Tensor) -> list[int]:
    """A tensor of sizes or axes as Python has them."""
    return [int(number) for number in numbers.flatten().tolist()]


def _padded(x: Tensor, pad_type: str, pad: Tensor | None, value: float) -> Tensor:
    """The spatial axes filled up; MIL counts pads from the first axis on, torch from the last."""
    if pad_type == "valid":
        return x
    if pad_type != "custom" or pad is None:
        raise NotImplementedError(f"pad_type {pad_type}")
    return functional.pad(x, _from_the_last(ints(pad)), value=value)


def _from_the_last(pads: Sequence[int]) -> list[int]:
    return [pads[i + side] for i in range(len(pads) - 2, -2, -2) for side in (0, 1)]


def pad_tensor(*, x: Tensor, pad: Tensor, mode: str, constant_val: Tensor) -> Tensor:
    """``pad`` is before and after each of the last axes."""
    pads = _from_the_last(ints(pad))
    if mode != "constant":
        raise NotImplementedError(f"pad of mode {mode}")
    return functional.pad(x, pads, value=float(constant_val))


def conv(
    *,
    x: Tensor,
    weight: Tensor,
    strides: Tensor,
    pad_type: str,
    dilations: Tensor,
    groups: Tensor,
    pad: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """[B, C, …] and [C', C / groups, …] → [B, C', …]."""
    if weight.dim() not in (3, 4):
        raise NotImplementedError(f"a convolution over {weight.dim() - 2} axes")
    convolve = functional.conv1d if weight.dim() == 3 else functional.conv2d
    return convolve(
        _padded(x, pad_type, pad, 0.0),
        weight,
        bias,
        stride=ints(strides),
        dilation=ints(dilations),
        groups=int(groups),
    )


def conv_transpose(
    *,
    x: Tensor,
    weight: Tensor,
    strides: Tensor,
    pad_type: str,
    dilations: Tensor,
    groups: Tensor,
    pad: Tensor | None = None,
    bias: Tensor | None = None,
    output_shape: Tensor | None = None,
) -> Tensor:
    """[B, C, H, W] and [C, C' / groups, h, w] → [B, C', H', W']; pads are cut from the result."""
    if pad_type not in ("valid", "custom"):
        raise NotImplementedError(f"pad_type {pad_type}")
    y = functional.conv_transpose2d(
        x, weight, bias, stride=ints(strides), dilation=ints(dilations), groups=int(groups)
    )
    if pad_type == "custom" and pad is not None:
        y = functional.pad(y, [-side for side in _from_the_last(ints(pad))])
    if output_shape is not None and ints(output_shape) != list(y.shape):
        raise NotImplementedError(
            f"conv_transpose to {ints(output_shape)} where its pads give {list(y.shape)}"
        )
    return y


def pool(reduce: Callable[..., Tensor], filling: float) -> Callable[..., Tensor]:
    """Pooling by a function of torch; ``filling`` is what padding holds."""

    def operator(
        *,
        x: Tensor,
        kernel_sizes: Tensor,
        strides: Tensor,
        pad_type: str,
        ceil_mode: Tensor,
        pad: Tensor | None = None,
        exclude_padding_from_average: Tensor | None = None,
    ) -> Tensor:
        if pad is not None and exclude_padding_from_average and any(ints(pad)):
            raise NotImplementedError("an average that leaves padding out")
        return reduce(
            _padded(x, pad_type, pad, filling), ints(kernel_sizes), ints(strides), ceil_mode=bool(ceil_mode)
        )

    return operator


def upsample_nearest_neighbor(
    *, x: Tensor, scale_factor_height: Tensor, scale_factor_width: Tensor
) -> Tensor:
    """[B, C, H, W] → [B, C, H · factor, W · factor]."""
    factors = float(scale_factor_height), float(scale_factor_width)
    return functional.interpolate(x, scale_factor=factors, mode="nearest")


def linear(*, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """[…, D] and [D', D] → […, D']."""
    return functional.linear(x, weight, bias)


def matmul(*, x: Tensor, y: Tensor, transpose_x: Tensor, transpose_y: Tensor) -> Tensor:
    """[…, N, K] and […, K, M], either turned around → […, N, M]."""
    return (x.transpose(-1, -2) if transpose_x else x) @ (y.transpose(-1, -2) if transpose_y else y)


def scaled_dot_product_attention(
    *, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None
) -> Tensor:
    """[B, H, S, d] and twice [B, H, T, d] → [B, H, S, d]; the mask is added to the scores."""
    return functional.scaled_dot_product_attention(query, key, value, attn_mask)


def layer_norm(
    *, x: Tensor, axes: Tensor, epsilon: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None
) -> Tensor:
    """Mean 0 and variance 1 along the axes, then scaled and shifted."""
    sizes = [x.shape[axis] for axis in ints(axes)]
    return functional.layer_norm(x, sizes, gamma, beta, float(epsilon))


def _along(parameter: Tensor | None, x: Tensor, axis: Tensor | None) -> Tensor:
    """A scale or zero point, one or one for each index of the axis, in float32 as broad as ``x``."""
    if parameter is None:
        return torch.zeros(())
    if axis is None or parameter.dim() == 0:
        return parameter.float()
    return parameter.float().reshape([-1 if i == int(axis) % x.dim() else 1 for i in range(x.dim())])


def quantize(
    *,
    input: Tensor,  # noqa: A002 - MIL's name
    scale: Tensor,
    output_dtype: str,
    zero_point: Tensor | None = None,
    axis: Tensor | None = None,
) -> Tensor:
    """The nearest levels of ``scale · (q - zero_point)``, halves to even."""
    levels = torch.round(input / _along(scale, input, axis)) + _along(zero_point, input, axis)
    limits = torch.iinfo(WHOLE[output_dtype])
    return levels.clamp(limits.min, limits.max).to(WHOLE[output_dtype])


def dequantize(
    *,
    input: Tensor,  # noqa: A002 - MIL's name
    scale: Tensor,
    zero_point: Tensor | None = None,
    axis: Tensor | None = None,
) -> Tensor:
    """``scale · (q - zero_point)``."""
    return (input.float() - _along(zero_point, input, axis)) * _along(scale, input, axis)
