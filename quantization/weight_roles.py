"""Which tensors of a network are weights that can be quantized, what they do, and along which axis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mobile_multimodal.config import ModelConfig
from mobile_multimodal.errors import MissingExtraError

try:
    from torch import nn

    from mobile_multimodal.backends.torch_backend import build_module
except ImportError as exc:
    raise MissingExtraError("torch", "export") from exc

__all__ = ["KINDS", "WeightRole", "weight_roles"]

KINDS = ("linear", "pointwise", "depthwise", "convolution", "embedding")


@dataclass(frozen=True)
class WeightRole:
    """What a weight does: its ``kind``, and the ``axis`` of its output channels."""

    kind: str
    axis: int


def weight_roles(component: str, config: ModelConfig) -> Mapping[str, WeightRole]:
    """The weights of a component's linear layers, convolutions and embeddings, by tensor name.

    Raises:
        KeyError: no component of this name.
    """
    roles = {}
    for name, module in build_module(component, config).named_modules():
        if (role := _role(module)) is not None:
            roles[f"{name}.weight"] = role
    return roles


def _role(module: nn.Module) -> WeightRole | None:
    if isinstance(module, nn.Linear):
        return WeightRole("linear", 0)
    if isinstance(module, nn.Embedding):
        return WeightRole("embedding", 0)
    if isinstance(module, nn.ConvTranspose2d):
        # [inputs, outputs / groups, height, width]: with groups no axis holds the output channels.
        return WeightRole("convolution", 1) if module.groups == 1 else None
    if isinstance(module, nn.Conv2d):
        if module.groups == module.in_channels > 1:
            return WeightRole("depthwise", 0)
        return WeightRole("pointwise" if module.kernel_size == (1, 1) else "convolution", 0)
    return None
