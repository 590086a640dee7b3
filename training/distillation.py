"""What a model that is being quantized learns: to see and to say what the float model does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from training.batches import Batch
from training.caption_model import CaptionModel, PhotoContext
from training.losses import LossTerms, name_divergence, token_loss

__all__ = ["Distillation", "relative_error"]


def relative_error(found: Tensor, wanted: Tensor) -> Tensor:
    """Squared error as a share of the squared ``wanted``: 0 for equal, 1 for all zeros."""
    wanted = wanted.float()
    return (found.float() - wanted).square().mean() / wanted.square().mean().clamp(min=1e-12)


@dataclass(frozen=True)
class Distillation:
    """Divergence from ``teacher`` (Hinton et al., arXiv 1503.02531) at what both see, name and say.

    ``said``: next tokens, behind people's texts and behind captions that the teacher draws itself (Kim and
    Rush, arXiv 1606.07947), which are what the model will read of its own. ``seen``: keys and values of the
    image, and the map behind every block that learns, without which errors of sixty layers add up (block
    by block as Li et al., "BRECQ", arXiv 2102.05426, reconstruct them). ``named``: classes and words.
    ``text`` holds on to people's answers.
    """

    teacher: CaptionModel
    drawn_captions: int = 2
    max_tokens: int = 18
    temperature: float = 0.5
    said_weight: float = 5.0
    seen_weight: float = 1.0
    named_weight: float = 0.25
    text_weight: float = 0.1

    def __call__(self, model: CaptionModel, batch: Batch) -> LossTerms:
        """The terms of one batch."""
        # Rounded once a step, however often a layer is called.
        with parametrize.cached():
            return self._terms(model, batch)

    def _terms(self, model: CaptionModel, batch: Batch) -> LossTerms:
        teacher = self.teacher
        learning = [
            number
            for number, block in enumerate(model.encoder.backbone.blocks)
            if any(parameter.requires_grad for parameter in block.parameters())
        ]
        with torch.no_grad(), _outputs(teacher.encoder.backbone.blocks, learning) as aimed:
            wanted = teacher.encoder.backbone(batch.pixels)
            known = teacher.read_names(wanted, batch.name_ids)
            ids, weights, owners = self._sequences(batch, known)
            learned = weights > 0
            states = teacher.token_states(ids, known.take(owners))
            aims = teacher.decoder.logits(states[learned]).float().log_softmax(-1)
        with _outputs(model.encoder.backbone.blocks, learning) as reached:
            seen = model.encoder.backbone(batch.pixels)
        context = model.read_names(seen, batch.name_ids)
        states = model.token_states(ids, context.take(owners))
        logits = model.decoder.logits(states[learned]).float()
        divergences = functional.kl_div(logits.log_softmax(-1), aims, reduction="none", log_target=True)
        counted = weights[learned]
        written = learned[: len(batch.targets)].sum()  # people's texts come first
        targets = batch.targets[batch.weights > 0]
        return {
            "said": self.said_weight * (divergences.sum(-1) * counted).sum() / counted.sum(),
            "text": self.text_weight * token_loss(logits[:written], targets, counted[:written], 0.0),
            "seen": self.seen_weight
            * (
                relative_error(context.key, known.key)
                + relative_error(context.value, known.value)
                + relative_error(seen.features, wanted.features)
                + torch.stack([relative_error(*pair) for pair in zip(reached, aimed, strict=True)]).mean()
            ),
            "named": self.named_weight
            * name_divergence(seen.class_logits, wanted.class_logits, model.config.vision.num_classes),
        }

    def _sequences(self, batch: Batch, known: PhotoContext) -> tuple[Tensor, Tensor, Tensor]:
        """The batch's texts and behind them captions that the teacher draws: ids, weights, photos of rows."""
        teacher, pad = self.teacher, self.teacher.tokenizer.pad_id
        rows = torch.arange(len(batch.pixels), device=batch.pixels.device)
        rows = rows.repeat_interleave(self.drawn_captions)
        drawn = teacher.sample_captions(known.take(rows), self.max_tokens, self.temperature)
        start = torch.full_like(drawn[:, :1], teacher.tokenizer.caption_id)
        own = torch.cat((start, drawn[:, :-1]), dim=1)
        width = max(own.shape[1], batch.input_ids.shape[1])

        def padded(first: Tensor, second: Tensor, value: float) -> Tensor:
            parts = [functional.pad(x, (0, width - x.shape[1]), value=value) for x in (first, second)]
            return torch.cat(parts)

        return (
            padded(batch.input_ids, own, pad),
            padded(batch.weights, (drawn != pad).to(batch.weights.dtype), 0.0),
            torch.cat((batch.photo_of_row, rows)),
        )


@contextmanager
def _outputs(blocks: nn.ModuleList, numbers: Sequence[int]) -> Iterator[list[Tensor]]:
    """What these blocks give while the context lasts, in order."""
    outputs: list[Tensor] = []
    handles = [
        blocks[number].register_forward_hook(lambda _, inputs, output: outputs.append(output))
        for number in numbers
    ]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()
