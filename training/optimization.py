"""What every stage shares: the learning-rate schedule, the averaged weights, fast CPU settings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

__all__ = ["AveragedWeights", "adamw", "cosine_lr", "fast_arithmetic"]


def cosine_lr(step: int, total: int, peak: float, warmup: int) -> float:
    """Linear warm-up to ``peak``, then half a cosine down to a hundredth of it."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def adamw(modules: dict[nn.Module, float], weight_decay: float) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter, arXiv 1711.05101) with one peak rate a module.

    Vectors (biases, norms) are not decayed. Each group keeps its peak as ``peak_lr``.
    """
    groups = []
    for module, peak in modules.items():
        parameters = [p for p in module.parameters() if p.requires_grad]
        for decayed in (True, False):
            chosen = [p for p in parameters if (p.ndim >= 2) == decayed]
            groups.append(
                {
                    "params": chosen,
                    "lr": peak,
                    "peak_lr": peak,
                    "weight_decay": weight_decay if decayed else 0.0,
                }
            )
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)


@contextmanager
def fast_arithmetic(device: str) -> Iterator[None]:
    """bfloat16 matrix products; on a CPU with the plain attention kernel.

    The flash kernel's backward pass takes 44 % of a training step on a CPU at these lengths.
    """
    with torch.autocast(device, torch.bfloat16):
        if device == "cpu":
            with sdpa_kernel(SDPBackend.MATH):
                yield
        else:
            yield


class AveragedWeights:
    """An exponential moving average of a module's parameters, kept beside them."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.state = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def resume(self, state: Mapping[str, Tensor], steps: int) -> None:
        """Go on from a checkpoint, whose tensors may lie on another device than the module's."""
        for name, value in self.state.items():
            value.copy_(state[name])
        self.steps = steps

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take one step towards the module's parameters; early steps move faster."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, value in module.state_dict().items():
            self.state[name].lerp_(value, 1 - decay)
