"""Where the text is: a probability per pixel (differentiable binarization, arXiv 1911.08947).

Architecture and weights: the PP-OCRv6 small detector of PaddleOCR (PaddlePaddle, Apache-2.0).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mobile_multimodal.networks.text_backbone import (
    SqueezeExcite,
    StageSpec,
    TextBackbone,
    normalize_pixels,
)

__all__ = ["DETECTOR_STAGES", "DETECTOR_STRIDE", "FeaturePyramid", "ProbabilityHead", "TextDetector"]

DETECTOR_STRIDE = 32
"""Height and width of the detector's input must be multiples of this."""

DETECTOR_STAGES = (
    StageSpec(48, (True, False)),
    StageSpec(96, (True, False), stride=(2, 2)),
    StageSpec(192, (True, False, True, False), stride=(2, 2)),
    StageSpec(384, (True, False), stride=(2, 2)),
)


def _upsample(features: Tensor, factor: int) -> Tensor:
    return functional.interpolate(features, scale_factor=float(factor), mode="nearest")


class _GatedProjection(nn.Module):
    """A 1×1 convolution to a new width, plus itself times its squeeze-excite gates."""

    def __init__(self, width: int, out_width: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(width, out_width, 1, bias=False)
        self.squeeze = SqueezeExcite(out_width, out_width // 4, slope=0.2)

    def forward(self, features: Tensor) -> Tensor:
        projected: Tensor = self.project(features)
        gates: Tensor = self.squeeze(projected)
        return projected + projected * gates


class _SmoothedProjection(nn.Module):
    """A depthwise 7×7 convolution, then a gated projection."""

    def __init__(self, width: int, out_width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.gated = _GatedProjection(width, out_width)

    def forward(self, features: Tensor) -> Tensor:
        output: Tensor = self.gated(self.depthwise(features))
        return output


class FeaturePyramid(nn.Module):
    """Four maps of strides 4, 8, 16, 32 joined into one [B, width, H/4, W/4], coarsest channels first.

    ``laterals`` and ``smoothers`` are ordered from the coarsest map to the finest, as they run.
    """

    def __init__(self, widths: tuple[int, ...], width: int) -> None:
        super().__init__()
        coarse_first = widths[::-1]
        self.laterals = nn.ModuleList(_GatedProjection(each, width) for each in coarse_first)
        self.smoothers = nn.ModuleList(_SmoothedProjection(width, width // len(widths)) for _ in coarse_first)

    def forward(self, maps: list[Tensor]) -> Tensor:
        merged: list[Tensor] = []
        for lateral, features in zip(self.laterals, reversed(maps), strict=True):
            projected = lateral(features)
            merged.append(projected if not merged else projected + _upsample(merged[-1], 2))
        joined = []
        for level, (smoother, features) in enumerate(zip(self.smoothers, merged, strict=True)):
            smoothed = smoother(features)
            factor = 2 ** (len(merged) - 1 - level)
            joined.append(smoothed if factor == 1 else _upsample(smoothed, factor))
        return torch.cat(joined, dim=1)


class ProbabilityHead(nn.Module):
    """Back to full size by two 2×2 transposed convolutions, and to one probability per pixel."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.entry = nn.Conv2d(width, hidden, 3, padding=1)
        self.upscale = nn.ConvTranspose2d(hidden, hidden, 2, stride=2)
        self.upscale_out = nn.ConvTranspose2d(hidden, 1, 2, stride=2)

    def forward(self, features: Tensor) -> Tensor:
        features = functional.relu(self.entry(features))
        features = functional.relu(self.upscale(features))
        return torch.sigmoid(self.upscale_out(features))  # [B, 1, H, W]


class TextDetector(nn.Module):
    """``pixel_values`` uint8 RGB [B, H, W, 3] → ``probability`` float32 [B, H, W]; H, W multiples of 32."""

    def __init__(self, *, stem_width: int = 24, pyramid_width: int = 96) -> None:
        super().__init__()
        self.backbone = TextBackbone(stem_width, DETECTOR_STAGES)
        self.pyramid = FeaturePyramid(tuple(spec.width for spec in DETECTOR_STAGES), pyramid_width)
        self.head = ProbabilityHead(pyramid_width, pyramid_width // 4)

    def forward(self, pixel_values: Tensor) -> Tensor:
        maps = self.backbone(normalize_pixels(pixel_values))
        probability: Tensor = self.head(self.pyramid(maps))
        return probability.squeeze(1)
