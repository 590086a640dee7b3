"""The convolutional backbone that the text detector and the text recognizer share.

Architecture and weights: PP-OCRv6 small of PaddleOCR (PaddlePaddle, Apache-2.0). Batch
normalisation is folded into the convolutions, as in the published inference graphs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["MixerBlock", "SqueezeExcite", "Stage", "StageSpec", "Stem", "TextBackbone", "normalize_pixels"]


@dataclass(frozen=True)
class StageSpec:
    """One stage: its width, one flag per block (with squeeze-excite or not), and its first stride.

    ``stride`` is (rows, columns) of the transition that enters the stage, and None where the
    stage starts at the width and size that it is given.
    """

    width: int
    squeeze: tuple[bool, ...]
    stride: tuple[int, int] | None = None


def normalize_pixels(pixel_values: Tensor) -> Tensor:
    """uint8 pixels [B, H, W, 3] as float32 [B, 3, H, W] in -1..1."""
    return pixel_values.permute(0, 3, 1, 2).to(torch.float32) * (2.0 / 255.0) - 1.0


class SqueezeExcite(nn.Module):
    """Per-channel gates in 0..1 from the mean of each channel (Hu et al., arXiv 1709.01507).

    The gate is ``clamp(slope * x + 0.5, 0, 1)``, clamped ahead of the slope, which a converter would merge
    into the weights else. Returns the gates [B, C, 1, 1], not the product.
    """

    def __init__(self, width: int, hidden: int, slope: float) -> None:
        super().__init__()
        self.slope = slope
        self.reduce = nn.Conv2d(width, hidden, 1)
        self.expand = nn.Conv2d(hidden, width, 1)

    def forward(self, features: Tensor) -> Tensor:
        pooled = features.mean((2, 3), keepdim=True)  # [B, C, 1, 1]
        gates = self.expand(functional.relu(self.reduce(pooled)))
        return torch.clamp(gates, -0.5 / self.slope, 0.5 / self.slope) * self.slope + 0.5


class Stem(nn.Module):
    """Four times smaller, in two branches: pooled, and through two 2×2 convolutions."""

    def __init__(self, width: int, out_width: int) -> None:
        super().__init__()
        self.entry = nn.Conv2d(3, width, 3, stride=2, padding=1)
        self.narrow = nn.Conv2d(width, width // 2, 2)
        self.widen = nn.Conv2d(width // 2, width, 2)
        self.merge = nn.Conv2d(2 * width, width, 3, stride=2, padding=1)
        self.project = nn.Conv2d(width, out_width, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        entered = functional.relu(self.entry(pixels))
        # An even kernel that keeps the size pads behind the last row and column only. Zeros do
        # not change the maximum either: nothing is negative behind a ReLU.
        padded = functional.pad(entered, (0, 1, 0, 1))
        pooled = functional.max_pool2d(padded, 2, stride=1)
        convolved = functional.relu(self.narrow(padded))
        convolved = functional.relu(self.widen(functional.pad(convolved, (0, 1, 0, 1))))
        merged = functional.relu(self.merge(torch.cat([pooled, convolved], dim=1)))
        return functional.relu(self.project(merged))


class MixerBlock(nn.Module):
    """A depthwise 3×3 convolution that mixes places, then a two-layer mix of channels.

    With ``residual`` the channel mix is added to its input; without, it replaces it, which is
    how a transition changes width and size.
    """

    def __init__(
        self,
        width: int,
        out_width: int,
        *,
        squeeze: bool = False,
        stride: tuple[int, int] = (1, 1),
        residual: bool = True,
    ) -> None:
        super().__init__()
        self.residual = residual
        self.depthwise = nn.Conv2d(width, width, 3, stride=stride, padding=1, groups=width)
        self.squeeze = SqueezeExcite(width, width // 4, slope=1.0 / 6.0) if squeeze else None
        self.expand = nn.Conv2d(width, 2 * width, 1)
        self.project = nn.Conv2d(2 * width, out_width, 1)

    def forward(self, features: Tensor) -> Tensor:
        mixed = self.depthwise(features)
        if self.squeeze is not None:
            mixed = mixed * self.squeeze(mixed)
        update: Tensor = self.project(functional.gelu(self.expand(mixed)))
        return mixed + update if self.residual else update


class Stage(nn.Module):
    """An optional transition to a new width and size, then blocks of one width."""

    def __init__(self, width: int, spec: StageSpec) -> None:
        super().__init__()
        self.transition = (
            None if spec.stride is None else MixerBlock(width, spec.width, stride=spec.stride, residual=False)
        )
        self.blocks = nn.Sequential(
            *(MixerBlock(spec.width, spec.width, squeeze=squeeze) for squeeze in spec.squeeze)
        )

    def forward(self, features: Tensor) -> Tensor:
        if self.transition is not None:
            features = self.transition(features)
        output: Tensor = self.blocks(features)
        return output


class TextBackbone(nn.Module):
    """Stem and stages; returns the feature map behind every stage, finest first."""

    def __init__(self, stem_width: int, stages: Sequence[StageSpec]) -> None:
        super().__init__()
        self.stem = Stem(stem_width, stages[0].width)
        widths = [stages[0].width, *(spec.width for spec in stages)]
        self.stages = nn.ModuleList(Stage(width, spec) for width, spec in zip(widths, stages, strict=False))

    def forward(self, pixels: Tensor) -> list[Tensor]:
        features = self.stem(pixels)
        outputs = []
        for stage in self.stages:
            features = stage(features)
            outputs.append(features)
        return outputs
