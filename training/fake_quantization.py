"""Weights that train as they will be stored: rounded in the forward pass, moved as floats by the gradient.

The scales learn too, by the straight-through gradient of LSQ (Esser et al., arXiv 1902.08153); 2 bits are
ternary, as ParetoQ finds best at this width (Liu et al., arXiv 2502.02631).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mobile_multimodal.quantized_tensor import QuantizedTensor
from mobile_multimodal.weight_files import StoredTensor
from quantization.plan import PlannedTensor
from quantization.quantize import quantize_tensor

__all__ = ["FakeQuantize", "fake_quantize", "float_state", "resume_weights", "stored_weights"]

CELL_HALF = 0.45
"""Half of the width of a cell that a resumed weight may lie in: at its border, any step would turn it."""


class FakeQuantize(nn.Module):
    """A parametrization: float weight → the weight that its whole numbers and scales give back."""

    def __init__(self, start: QuantizedTensor) -> None:
        super().__init__()
        self.scheme, self.shape, self.axis = start.scheme, start.shape, start.axis
        # The logarithm keeps a scale positive, and an optimizer's step in proportion to it.
        self.log_scale = nn.Parameter(torch.from_numpy(np.log(start.scale.astype(np.float32))).flatten())

    def scale(self) -> Tensor:
        """Scales [channels, groups] as the file will hold them; their gradient passes the rounding."""
        scale = self.log_scale.exp().view(self.shape[self.axis], -1)
        if self.scheme.scale_dtype is np.float16:
            scale = scale + (scale.half().float() - scale).detach()
        return scale

    def ratio(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The weight in units of its scales, clipped: [channels, groups, group size], and the scales."""
        matrix = weight.movedim(self.axis, 0).flatten(1)
        columns = matrix.shape[1]
        width = self.scheme.group_size or columns
        groups = self.scheme.groups(columns)
        if groups * width != columns:
            matrix = nn.functional.pad(matrix, (0, groups * width - columns))
        scale = self.scale()[:, :, None]
        largest = self.scheme.largest
        return (matrix.view(-1, groups, width) / scale).clamp(-largest, largest), scale

    def forward(self, weight: Tensor) -> Tensor:
        """A weight of ``shape`` → the same weight on its grid."""
        ratio, scale = self.ratio(weight)
        whole = ratio + (ratio.round() - ratio).detach()
        columns = weight.numel() // self.shape[self.axis]
        return self._shaped((whole * scale).flatten(1)[:, :columns])

    def _shaped(self, matrix: Tensor) -> Tensor:
        """[channels, columns] → the weight's own shape."""
        moved = [self.shape[self.axis], *(n for i, n in enumerate(self.shape) if i != self.axis)]
        return matrix.reshape(moved).movedim(0, self.axis)

    @torch.no_grad()
    def resume(self, weight: Tensor, stored: QuantizedTensor) -> Tensor:
        """Take the stored scales, and give back the float weight nearest to this one that rounds as stored.

        A packed file does not hold the floats that training moved; those of the model that it began with,
        moved into the cells of the stored whole numbers, are as near to them as can be told. None is left
        beyond the largest level, where no gradient would reach it.

        Raises:
            ValueError: a tensor of another scheme or shape.
        """
        if (stored.scheme, stored.shape, stored.axis) != (self.scheme, self.shape, self.axis):
            raise ValueError(f"{stored.scheme} {stored.shape} does not fit {self.scheme} {self.shape}")
        self.log_scale.copy_(torch.from_numpy(stored.scale.astype(np.float32)).log().flatten())
        steps, whole = torch.from_numpy(stored.scales()), torch.from_numpy(stored.values()).float()
        widest = self.scheme.largest - (0.5 - CELL_HALF)
        low, high = (whole - CELL_HALF).clamp(min=-widest), (whole + CELL_HALF).clamp(max=widest)
        ratio = weight.movedim(self.axis, 0).flatten(1) / steps
        return self._shaped(ratio.maximum(low).minimum(high) * steps)

    @torch.no_grad()
    def stored(self, weight: Tensor) -> QuantizedTensor:
        """The whole numbers and scales of this weight, packed."""
        ratio, scale = self.ratio(weight.float())
        columns = weight.numel() // self.shape[self.axis]
        values = ratio.round().flatten(1)[:, :columns].to(torch.int8).numpy()
        return QuantizedTensor.of(values, scale[:, :, 0].numpy(), self.scheme, self.shape, self.axis)


def fake_quantize(module: nn.Module, planned: Sequence[PlannedTensor]) -> None:
    """Let every weight that the plan quantizes train on its grid, in place.

    Scales start where the recipe's own algorithm puts them.
    """
    for tensor in planned:
        if tensor.scheme is None:
            continue
        path, name = tensor.tensor.rsplit(".", 1)
        layer = module.get_submodule(path)
        weight: Tensor = getattr(layer, name)
        start = quantize_tensor(weight.detach().cpu().numpy(), tensor)
        parametrize.register_parametrization(layer, name, FakeQuantize(start).to(weight.device), unsafe=True)


@torch.no_grad()
def resume_weights(module: nn.Module, stored: Mapping[str, StoredTensor]) -> None:
    """Set a fake-quantized module to what was stored of it, so that training can go on, in place.

    Raises:
        ValueError: as :meth:`FakeQuantize.resume`.
        KeyError: a weight that is not stored.
    """
    for path, layer in module.named_modules():
        if not parametrize.is_parametrized(layer):
            continue
        for name, (grid,) in layer.parametrizations.items():
            original = layer.parametrizations[name].original
            kept = stored[f"{path}.{name}"]
            if not isinstance(kept, QuantizedTensor):
                raise ValueError(f"{path}.{name} is not stored quantized")
            original.copy_(grid.resume(original, kept))
    parameters = dict(module.named_parameters())
    for name, value in stored.items():
        if not isinstance(value, QuantizedTensor):
            parameters[name].copy_(torch.from_numpy(value))


@torch.no_grad()
def stored_weights(module: nn.Module) -> Mapping[str, QuantizedTensor]:
    """What the fake-quantized weights of a module are stored as, by the names of the float module."""
    stored = {}
    for path, layer in module.named_modules():
        if not parametrize.is_parametrized(layer):
            continue
        for name, parametrization in layer.parametrizations.items():
            (grid,) = parametrization
            stored[f"{path}.{name}"] = grid.stored(parametrization.original.detach().cpu())
    return stored


@torch.no_grad()
def float_state(module: nn.Module) -> Mapping[str, Tensor]:
    """The parameters of a module that are not fake-quantized, by the names of the float module."""
    return {
        name: value.detach().cpu()
        for name, value in module.state_dict().items()
        if "parametrizations." not in name
    }
