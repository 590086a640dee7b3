"""What a line of text says: class probabilities per step, for CTC (Graves et al., ICML 2006).

Architecture and weights: the PP-OCRv6 small recognizer of PaddleOCR (PaddlePaddle, Apache-2.0):
the shared backbone with a horizontal stride of 4, two global attention layers over the steps
(SVTR, arXiv 2205.00159) beside a shortcut, and a linear head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mobile_multimodal.networks.text_backbone import StageSpec, TextBackbone, normalize_pixels

__all__ = [
    "RECOGNIZER_HEIGHT",
    "RECOGNIZER_STAGES",
    "RECOGNIZER_STRIDE",
    "AttentionLayer",
    "SequenceEncoder",
    "TextRecognizer",
]

RECOGNIZER_HEIGHT = 48
"""Height in pixels of the recognizer's input: its feature map is then one row high."""

RECOGNIZER_STRIDE = 8
"""Pixels per step; the width of the recognizer's input must be a multiple of this."""

RECOGNIZER_STAGES = (
    StageSpec(96, (True, False, False)),
    StageSpec(192, (True, False, True, False, True, False), stride=(2, 1)),
    StageSpec(384, (True, False), stride=(2, 1)),
)


class AttentionLayer(nn.Module):
    """Pre-norm self-attention and feed-forward (SiLU) over the steps [B, T, width]."""

    def __init__(self, width: int, num_heads: int, hidden: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention_norm = nn.LayerNorm(width, eps=1e-5)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.feed_forward_norm = nn.LayerNorm(width, eps=1e-5)
        self.feed_forward_in = nn.Linear(width, hidden)
        self.feed_forward_out = nn.Linear(hidden, width)

    def forward(self, steps: Tensor) -> Tensor:
        width = steps.shape[-1]
        parts = self.query_key_value(self.attention_norm(steps)).chunk(3, dim=-1)
        heads = (self.num_heads, width // self.num_heads)
        query, key, value = (part.unflatten(-1, heads).transpose(1, 2) for part in parts)  # [B, H, T, d]
        attended = functional.scaled_dot_product_attention(query, key, value)
        steps = steps + self.attention_out(attended.transpose(1, 2).flatten(2))
        hidden = functional.silu(self.feed_forward_in(self.feed_forward_norm(steps)))
        output: Tensor = steps + self.feed_forward_out(hidden)
        return output


class SequenceEncoder(nn.Module):
    """A row of features [B, in_width, 1, T] as steps that have seen each other, [B, T, width]."""

    def __init__(self, in_width: int, width: int, num_heads: int, num_layers: int) -> None:
        super().__init__()
        self.shortcut = nn.Conv2d(in_width, width, 1)
        self.reduce = nn.Conv2d(in_width, width, 1)
        self.local = nn.Conv2d(width, width, (1, 7), padding=(0, 3), groups=width)
        self.layers = nn.Sequential(*(AttentionLayer(width, num_heads, 2 * width) for _ in range(num_layers)))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, row: Tensor) -> Tensor:
        shortcut = functional.silu(self.shortcut(row))
        reduced = functional.silu(self.reduce(row))
        reduced = reduced + functional.silu(self.local(reduced))
        steps = reduced.squeeze(2).transpose(1, 2)  # [B, T, width]
        encoded: Tensor = self.norm(self.layers(steps))
        return encoded + shortcut.squeeze(2).transpose(1, 2)


class TextRecognizer(nn.Module):
    """Lines of text, uint8 RGB [B, 48, W, 3], W a multiple of 8 → ``probability`` [B, W / 8, num_classes].

    Class 0 is the CTC blank; class ``i`` is ``characters[i - 1]``. :meth:`logits` gives the scores
    before the softmax.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        stem_width: int = 48,
        width: int = 120,
        num_heads: int = 8,
        num_layers: int = 2,
    ) -> None:
        super().__init__()
        self.backbone = TextBackbone(stem_width, RECOGNIZER_STAGES)
        self.encoder = SequenceEncoder(RECOGNIZER_STAGES[-1].width, width, num_heads, num_layers)
        self.head = nn.Linear(width, num_classes)

    def logits(self, pixel_values: Tensor) -> Tensor:
        """Scores float32 [B, W / 8, num_classes]."""
        features = self.backbone(normalize_pixels(pixel_values))[-1]  # [B, 384, 3, W / 4]
        row = functional.avg_pool2d(features, (3, 2))
        scores: Tensor = self.head(self.encoder(row))
        return scores

    def forward(self, pixel_values: Tensor) -> Tensor:
        return torch.softmax(self.logits(pixel_values), dim=-1)
