"""Encoder and decoder as they train together: class names first, then the sequences of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mobile_multimodal.config import ModelConfig
from mobile_multimodal.networks.text_decoder import MASKED, TextDecoder, causal_mask, empty_cache
from mobile_multimodal.networks.vision_encoder import BackboneOutput, VisionEncoder
from mobile_multimodal.tokenizer import Tokenizer

__all__ = ["CaptionModel", "PhotoContext"]


@dataclass(frozen=True)
class PhotoContext:
    """What the decoder knows of a batch of photos before it reads a prompt.

    ``key`` and ``value`` [L, B, H, M, d] of the image, ``names_key`` and ``names_value``
    [L, B, H, slots, d] of the class names, and which names count: ``visible`` [B, slots].
    """

    key: Tensor
    value: Tensor
    names_key: Tensor
    names_value: Tensor
    visible: Tensor

    def take(self, rows: Tensor) -> PhotoContext:
        """The context of these photos [N]; a photo may come more than once."""
        return PhotoContext(
            self.key[:, rows],
            self.value[:, rows],
            self.names_key[:, rows],
            self.names_value[:, rows],
            self.visible[rows],
        )


class CaptionModel(nn.Module):
    """Encoder and decoder of one model, as they train."""

    def __init__(
        self, config: ModelConfig, tokenizer: Tokenizer, names: Sequence[str], dropout: float
    ) -> None:
        super().__init__()
        self.config, self.tokenizer = config, tokenizer
        self.encoder = VisionEncoder(config.vision, config.text, dropout)
        self.decoder = TextDecoder(config.text, dropout)
        self.name_tokens = tokenizer.encode_batch(names)

    def learn_blocks_from(self, first: int | None) -> None:
        """Freeze the backbone, or all of it before this block; its classifiers always stay as they are."""
        backbone = self.encoder.backbone
        backbone.requires_grad_(False)
        if first is not None:
            backbone.blocks[first:].requires_grad_(True)
            backbone.head.requires_grad_(True)

    def look(self, pixels: Tensor, name_ids: Tensor) -> tuple[PhotoContext, Tensor]:
        """Encode photos uint8 [B, side, side, 3] and read their names [B, slots] → context, name logits.

        The names come with the photo, not from the encoder: on photos that it learns from, it would be
        surer of its words than it is of new ones.
        """
        seen = self.encoder.backbone(pixels)
        return self.read_names(seen, name_ids), seen.class_logits

    def read_names(self, seen: BackboneOutput, name_ids: Tensor) -> PhotoContext:
        """What the backbone sees of photos, and their names [B, slots] → context."""
        key, value = self.encoder.projector(seen)
        text, device = self.config.text, name_ids.device
        visible = name_ids != self.tokenizer.pad_id
        batch, slots = visible.shape
        nothing = torch.zeros(batch, 0, dtype=torch.bool, device=device)
        hidden = torch.where(visible[:, None, None, :], 0.0, MASKED)
        cache = empty_cache(text, batch, device=device)
        _, names_key, names_value = self.decoder.states(
            name_ids,
            torch.arange(slots, device=device).expand(batch, slots),
            torch.minimum(causal_mask(nothing, slots), hidden),
            key,
            value,
            cache,
            cache,
        )
        return PhotoContext(key, value, names_key, names_value, visible)

    def token_states(self, input_ids: Tensor, context: PhotoContext) -> Tensor:
        """States [N, W, D] of sequences [N, W] whose photos are the rows of the context."""
        rows, width = input_ids.shape
        positions = torch.arange(width, device=input_ids.device).expand(rows, width)
        states, _, _ = self.decoder.states(
            input_ids,
            positions + self.config.text.num_name_slots,
            causal_mask(context.visible, width),
            context.key,
            context.value,
            context.names_key,
            context.names_value,
        )
        return states

    @torch.no_grad()
    def sample_captions(self, context: PhotoContext, max_tokens: int, temperature: float) -> Tensor:
        """One caption drawn at random for each row of the context: ids [N, max_tokens], padded.

        The end token is part of it; what stands behind it is the pad id. A ``temperature`` below 1
        draws likely words more often.
        """
        text, device = self.config.text, context.visible.device
        rows = len(context.visible)
        past_key, past_value, visible = context.names_key, context.names_value, context.visible
        token = torch.full((rows, 1), self.tokenizer.caption_id, device=device)
        drawn = torch.full((rows, max_tokens), self.tokenizer.pad_id, device=device)
        going = torch.ones(rows, dtype=torch.bool, device=device)
        for step in range(max_tokens):
            position = torch.full((rows, 1), text.num_name_slots + step, device=device)
            states, key, value = self.decoder.states(
                token, position, causal_mask(visible, 1), context.key, context.value, past_key, past_value
            )
            logits = self.decoder.logits(states[:, 0]).float()
            logits[:, : self.tokenizer.end_id] = MASKED
            logits[:, self.tokenizer.end_id + 1 : self.tokenizer.answer_id + 1] = MASKED
            token = torch.multinomial((logits / temperature).softmax(-1), 1)
            drawn[:, step] = torch.where(going, token[:, 0], self.tokenizer.pad_id)
            going = going & (token[:, 0] != self.tokenizer.end_id)
            if not going.any():
                break
            past_key, past_value = torch.cat((past_key, key), dim=3), torch.cat((past_value, value), dim=3)
            visible = torch.cat((visible, torch.ones_like(visible[:, :1])), dim=1)
        return drawn
