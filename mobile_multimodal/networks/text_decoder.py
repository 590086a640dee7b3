"""The text decoder: a small causal transformer that also attends to the image.

Pre-norm blocks of self-attention, cross-attention and a feed-forward layer with exact GELU
(tanh-GELU changes silently on the way to Core ML); token embeddings are tied to the output.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from mobile_multimodal.config import TextConfig

__all__ = [
    "CrossAttention",
    "DecoderLayer",
    "DecoderOutput",
    "SelfAttention",
    "TextDecoder",
    "causal_mask",
    "empty_cache",
]

MASKED = -1e4
"""What the mask adds to a score that must not count; finite, so that fp16 and integer runtimes hold it."""


class DecoderOutput(NamedTuple):
    """``logits`` [B, S, vocabulary]; ``new_key``, ``new_value`` [L, B, H, S, d] of the new tokens alone."""

    logits: Tensor
    new_key: Tensor
    new_value: Tensor


class SelfAttention(nn.Module):
    """Causal self-attention over cached and new tokens."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.num_heads, self.head_dim = config.num_heads, config.head_dim
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)

    def forward(
        self, x: Tensor, mask: Tensor, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """``x`` [B, S, D], ``mask`` [B, 1, S, T + S], ``past`` two of [B, H, T, d] → output, key, value."""
        batch, steps, width = x.shape
        # Parted before the heads are: GPU delegates take no more than four axes.
        parts = self.qkv(x).chunk(3, dim=-1)
        query, key, value = (
            part.view(batch, steps, self.num_heads, self.head_dim).transpose(1, 2) for part in parts
        )  # each [B, H, S, d]
        keys, values = key, value
        if past is not None:
            keys, values = torch.cat((past[0], key), dim=2), torch.cat((past[1], value), dim=2)
        y = functional.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
        return self.out(y.transpose(1, 2).reshape(batch, steps, width)), key, value


class CrossAttention(nn.Module):
    """Attention to the image; its keys and values come ready from the image encoder."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.num_heads, self.head_dim = config.num_heads, config.head_dim
        self.query = nn.Linear(config.width, config.width)
        self.out = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """``x`` [B, S, D], ``key`` and ``value`` [B, H, M, d] → [B, S, D]."""
        batch, steps, width = x.shape
        query = self.query(x).view(batch, steps, self.num_heads, self.head_dim).transpose(1, 2)
        y = functional.scaled_dot_product_attention(query, key, value)
        return self.out(y.transpose(1, 2).reshape(batch, steps, width))


class DecoderLayer(nn.Module):
    """One pre-norm block."""

    def __init__(self, config: TextConfig, dropout: float) -> None:
        super().__init__()
        self.self_norm = nn.LayerNorm(config.width)
        self.self_attention = SelfAttention(config)
        self.cross_norm = nn.LayerNorm(config.width)
        self.cross_attention = CrossAttention(config)
        self.feed_forward_norm = nn.LayerNorm(config.width)
        self.expand = nn.Linear(config.width, config.feed_forward_width)
        self.contract = nn.Linear(config.feed_forward_width, config.width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        mask: Tensor,
        past: tuple[Tensor, Tensor] | None,
        image: tuple[Tensor, Tensor] | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """``x`` [B, S, D] → [B, S, D], new key and value [B, H, S, d]; cache and image may be left out."""
        y, key, value = self.self_attention(self.self_norm(x), mask, past)
        x = x + self.dropout(y)
        if image is not None:
            x = x + self.dropout(self.cross_attention(self.cross_norm(x), *image))
        y = self.contract(functional.gelu(self.expand(self.feed_forward_norm(x))))
        return x + self.dropout(y), key, value


class TextDecoder(nn.Module):
    """Tokens, an image and a cache → logits and the cache entries of the new tokens.

    One graph serves prefill (``T`` = 0, many new tokens) and decode (one new token).
    ``dropout`` acts in training only.
    """

    def __init__(self, config: TextConfig, dropout: float = 0.0) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        self.position_embedding = nn.Embedding(config.max_positions, config.width)
        self.layers = nn.ModuleList(DecoderLayer(config, dropout) for _ in range(config.num_layers))
        self.final_norm = nn.LayerNorm(config.width)
        self.dropout = nn.Dropout(dropout)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.position_embedding.weight, std=0.02)
        for name, parameter in self.named_parameters():
            if name.endswith(("qkv.weight", "query.weight", "expand.weight")):
                nn.init.normal_(parameter, std=0.02)
            elif name.endswith(("out.weight", "contract.weight")):
                # GPT-2's scaling: residual branches start small in proportion to their number.
                nn.init.normal_(parameter, std=0.02 / (3 * config.num_layers) ** 0.5)

    def states(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        attention_mask: Tensor,
        image_key: Tensor | None,
        image_value: Tensor | None,
        past_key: Tensor | None,
        past_value: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Everything but the output head → normed states [B, S, D], new key and value.

        Training takes it to spare the logits of the prompt, and passes no image to learn language alone. No
        cache is the same as one of no tokens, which some runtimes cannot hold.
        """
        x = self.token_embedding(input_ids) + self.position_embedding(position_ids)  # [B, S, D]
        x = self.dropout(x)
        keys, values = [], []
        for index, layer in enumerate(self.layers):
            image = (
                None if image_key is None or image_value is None else (image_key[index], image_value[index])
            )
            past = None if past_key is None or past_value is None else (past_key[index], past_value[index])
            x, key, value = layer(x, attention_mask, past, image)
            keys.append(key)
            values.append(value)
        return self.final_norm(x), torch.stack(keys), torch.stack(values)

    def logits(self, states: Tensor) -> Tensor:
        """[..., D] → [..., vocabulary], through the tied token embeddings."""
        return functional.linear(states, self.token_embedding.weight)

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        attention_mask: Tensor,
        image_key: Tensor,
        image_value: Tensor,
        past_key: Tensor,
        past_value: Tensor,
    ) -> DecoderOutput:
        """Run the new tokens; shapes as in :class:`mobile_multimodal.backends.Backend`."""
        states, key, value = self.states(
            input_ids, position_ids, attention_mask, image_key, image_value, past_key, past_value
        )
        return DecoderOutput(self.logits(states), key, value)


def empty_cache(config: TextConfig, batch: int, *, device: torch.device | str = "cpu") -> Tensor:
    """A cache that holds no token yet: [L, B, H, 0, d]."""
    return torch.zeros(config.num_layers, batch, config.num_heads, 0, config.head_dim, device=device)


def causal_mask(past_visible: Tensor, steps: int) -> Tensor:
    """The additive mask of ``steps`` new tokens behind a cache.

    ``past_visible`` bool [B, T] says which cached tokens count → float32 [B, 1, steps, T + steps].
    """
    batch = past_visible.shape[0]
    past = past_visible[:, None, None, :].expand(batch, 1, steps, -1)
    new = torch.ones(steps, steps, dtype=torch.bool, device=past_visible.device).tril()
    visible = torch.cat((past, new.expand(batch, 1, -1, -1)), dim=3)
    return torch.where(visible, 0.0, MASKED)
