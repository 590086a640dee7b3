"""The image encoder: EfficientNet-Lite, a light attention layer, and the decoder's image keys and values.

EfficientNet-Lite (Tan and Le, arXiv 1905.11946, in the variant for integer NPUs: ReLU6, no
squeeze-and-excite). Batch normalisation is folded into the convolutions when weights are imported.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from mobile_multimodal.config import TextConfig, VisionConfig

__all__ = [
    "BackboneOutput",
    "EncoderOutput",
    "ImageProjector",
    "InvertedResidual",
    "SamePadConv",
    "Stage",
    "VisionBackbone",
    "VisionEncoder",
]


class Stage(NamedTuple):
    """Blocks of one resolution: depthwise kernel side, stride of the first, expansion, channels."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES: dict[str, tuple[Stage, ...]] = {
    "efficientnet_lite0": (
        Stage(1, 3, 1, 1, 16),
        Stage(2, 3, 2, 6, 24),
        Stage(2, 5, 2, 6, 40),
        Stage(3, 3, 2, 6, 80),
        Stage(3, 5, 1, 6, 112),
        Stage(4, 5, 2, 6, 192),
        Stage(1, 3, 1, 6, 320),
    ),
    "efficientnet_lite1": (
        Stage(1, 3, 1, 1, 16),
        Stage(3, 3, 2, 6, 24),
        Stage(3, 5, 2, 6, 40),
        Stage(4, 3, 2, 6, 80),
        Stage(4, 5, 1, 6, 112),
        Stage(5, 5, 2, 6, 192),
        Stage(1, 3, 1, 6, 320),
    ),
    "efficientnet_lite2": (
        Stage(1, 3, 1, 1, 16),
        Stage(3, 3, 2, 6, 24),
        Stage(3, 5, 2, 6, 48),
        Stage(4, 3, 2, 6, 88),
        Stage(4, 5, 1, 6, 120),
        Stage(5, 5, 2, 6, 208),
        Stage(1, 3, 1, 6, 352),
    ),
}
STEM_CHANNELS = 32
COLOR_CELL = 8
"""Side in pixels of the squares whose mean colours reach the projector."""
FINE_STAGES = 5
"""Stages of the backbone up to the last map of stride 16."""


class BackboneOutput(NamedTuple):
    """What the backbone sees, from coarse to fine, and what it names.

    ``features`` [B, M, C] of the cells of 32 × 32 pixels; ``fine`` [B, C', 2h, 2h], the last map of
    stride 16; ``colors`` [B, 3, S / 8, S / 8], mean normalised pixels: what a classifier learns to
    overlook. ``class_logits`` [B, names]: classes, then caption words.
    """

    features: Tensor
    fine: Tensor
    colors: Tensor
    class_logits: Tensor


class EncoderOutput(NamedTuple):
    """``image_key`` and ``image_value`` [L, B, H, M, d]; ``class_logits`` [B, names]."""

    image_key: Tensor
    image_value: Tensor
    class_logits: Tensor


class SamePadConv(nn.Conv2d):
    """A convolution padded as TensorFlow's SAME for even inputs: the odd pixel goes right and below."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        before = (kernel - stride) // 2
        self.extra = (kernel - stride) - 2 * before
        super().__init__(inputs, outputs, kernel, stride, padding=0 if self.extra else before, groups=groups)
        self.before = before

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] → [B, C', H / stride, W / stride]."""
        if self.extra:
            after = self.before + self.extra
            x = functional.pad(x, (self.before, after, self.before, after))
        return super().forward(x)


class InvertedResidual(nn.Module):
    """Expand, filter depthwise, project; added to its input where the shape allows."""

    def __init__(self, inputs: int, stage: Stage, stride: int) -> None:
        super().__init__()
        hidden = inputs * stage.expansion
        self.expand = SamePadConv(inputs, hidden, 1) if stage.expansion > 1 else None
        self.depthwise = SamePadConv(hidden, hidden, stage.kernel, stride, groups=hidden)
        self.project = SamePadConv(hidden, stage.channels, 1)
        self.residual = stride == 1 and inputs == stage.channels

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] → [B, C', H / stride, W / stride]."""
        y = x if self.expand is None else functional.relu6(self.expand(x))
        y = self.project(functional.relu6(self.depthwise(y)))
        return x + y if self.residual else y


class VisionBackbone(nn.Module):
    """uint8 pixels → maps of three resolutions, and logits of ImageNet classes and caption words."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = SamePadConv(3, STEM_CHANNELS, 3, 2)
        blocks, inputs = [], STEM_CHANNELS
        for stage in STAGES[config.architecture]:
            for repeat in range(stage.repeats):
                blocks.append(InvertedResidual(inputs, stage, stage.stride if repeat == 0 else 1))
                inputs = stage.channels
        self.blocks = nn.ModuleList(blocks)
        self.num_fine_blocks = sum(stage.repeats for stage in STAGES[config.architecture][:FINE_STAGES])
        self.head = SamePadConv(inputs, config.feature_channels, 1)
        self.classifier = nn.Linear(config.feature_channels, config.num_classes)
        self.words = nn.Linear(config.feature_channels, config.num_words) if config.num_words else None

    def forward(self, pixel_values: Tensor) -> BackboneOutput:
        """uint8 [B, S, S, 3] → :class:`BackboneOutput`."""
        x = pixel_values.permute(0, 3, 1, 2).to(self.stem.weight.dtype)
        x = (x - self.config.pixel_mean) / self.config.pixel_std
        colors = functional.avg_pool2d(x, COLOR_CELL)
        x = functional.relu6(self.stem(x))
        for block in self.blocks[: self.num_fine_blocks]:
            x = block(x)
        fine = x
        for block in self.blocks[self.num_fine_blocks :]:
            x = block(x)
        features = functional.relu6(self.head(x)).flatten(2).transpose(1, 2)  # [B, M, C]
        pooled = features.mean(dim=1)
        logits = self.classifier(pooled)
        if self.words is not None:
            logits = torch.cat((logits, self.words(pooled)), dim=1)
        return BackboneOutput(features, fine, colors, logits)


class ImageProjector(nn.Module):
    """Features → one attention layer among the image's cells → keys and values of every decoder layer.

    A cell is the sum of projections of its feature, of its four fine features and of its sixteen mean
    colours. Keys and values depend on the image alone, so they are computed once and serve every token
    of every task.
    """

    def __init__(self, vision: VisionConfig, text: TextConfig, dropout: float = 0.0) -> None:
        super().__init__()
        self.text = text
        self.project = nn.Linear(vision.feature_channels, text.width)
        fine_channels = STAGES[vision.architecture][FINE_STAGES - 1].channels
        self.project_fine = nn.Conv2d(fine_channels, text.width, 2, 2)
        colors_in_cell = 32 // COLOR_CELL
        self.project_colors = nn.Conv2d(3, text.width, colors_in_cell, colors_in_cell)
        self.cell_embedding = nn.Parameter(torch.zeros(vision.num_cells, text.width))
        self.attention_norm = nn.LayerNorm(text.width)
        self.qkv = nn.Linear(text.width, 3 * text.width)
        self.out = nn.Linear(text.width, text.width)
        self.feed_forward_norm = nn.LayerNorm(text.width)
        self.expand = nn.Linear(text.width, 2 * text.width)
        self.contract = nn.Linear(2 * text.width, text.width)
        self.final_norm = nn.LayerNorm(text.width)
        self.key = nn.Linear(text.width, text.num_layers * text.width)
        self.value = nn.Linear(text.width, text.num_layers * text.width)
        self.dropout = nn.Dropout(dropout)
        nn.init.normal_(self.cell_embedding, std=0.02)

    def forward(self, seen: BackboneOutput) -> tuple[Tensor, Tensor]:
        """What the backbone sees → image key and value, each [L, B, H, M, d]."""
        heads, head_dim, layers = self.text.num_heads, self.text.head_dim, self.text.num_layers
        batch, cells, _ = seen.features.shape
        details = self.project_fine(seen.fine) + self.project_colors(seen.colors)  # [B, D, h, h]
        x = self.project(seen.features) + details.flatten(2).transpose(1, 2) + self.cell_embedding
        x = self.dropout(x)  # [B, M, D]
        parts = self.qkv(self.attention_norm(x)).chunk(3, dim=-1)
        query, key, value = (
            part.view(batch, cells, heads, head_dim).transpose(1, 2) for part in parts
        )  # each [B, H, M, d]
        y = functional.scaled_dot_product_attention(query, key, value)
        x = x + self.dropout(self.out(y.transpose(1, 2).reshape(batch, cells, self.text.width)))
        y = self.contract(functional.gelu(self.expand(self.feed_forward_norm(x))))
        x = self.final_norm(x + self.dropout(y))
        image_key = self.key(x).view(batch, cells, layers, heads, head_dim).permute(2, 0, 3, 1, 4)
        image_value = self.value(x).view(batch, cells, layers, heads, head_dim).permute(2, 0, 3, 1, 4)
        return image_key, image_value


class VisionEncoder(nn.Module):
    """The whole component: uint8 pixels → what the decoder attends to, and class logits."""

    def __init__(self, vision: VisionConfig, text: TextConfig, dropout: float = 0.0) -> None:
        super().__init__()
        self.backbone = VisionBackbone(vision)
        self.projector = ImageProjector(vision, text, dropout)

    def forward(self, pixel_values: Tensor) -> EncoderOutput:
        """uint8 [B, side, side, 3] → :class:`EncoderOutput`."""
        seen = self.backbone(pixel_values)
        image_key, image_value = self.projector(seen)
        return EncoderOutput(image_key, image_value, seen.class_logits)
