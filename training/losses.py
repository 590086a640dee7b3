"""What the stages minimise: the texts' cross-entropy, the encoder's memory, and the captions' reward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.caption_metrics import CiderD, tokenize
from benchmarks.content_words import repeated_words
from training.batches import Batch
from training.caption_model import CaptionModel, PhotoContext
from training.data import TrainingPhoto

__all__ = [
    "CaptionReward",
    "LossTerms",
    "SelfCritical",
    "joint_loss",
    "name_divergence",
    "text_loss",
    "token_loss",
]

LossTerms = Mapping[str, Tensor]
END = ("<end>",)
FEWEST_CAPTIONS = 3
WORD_SHARE = 0.1
"""Words are many and independent: their divergences add up, those of the classes do not."""


def token_loss(logits: Tensor, targets: Tensor, weights: Tensor, label_smoothing: float) -> Tensor:
    """Weighted mean cross-entropy of ``logits`` [N, V] against ``targets`` [N], ``weights`` [N]."""
    losses = functional.cross_entropy(
        logits.float(), targets, reduction="none", label_smoothing=label_smoothing
    )
    return (losses * weights).sum() / weights.sum().clamp(min=1e-6)


def text_loss(model: CaptionModel, context: PhotoContext, batch: Batch, label_smoothing: float) -> Tensor:
    """Cross-entropy of the batch's captions and answers."""
    states = model.token_states(batch.input_ids, context.take(batch.photo_of_row))
    learned = batch.weights > 0
    logits = model.decoder.logits(states[learned])
    return token_loss(logits, batch.targets[learned], batch.weights[learned], label_smoothing)


def name_divergence(class_logits: Tensor, wanted: Tensor, classes: int) -> Tensor:
    """How far name logits [B, names] are from ``wanted``: of the classes, and a share of the words'."""
    divergence = functional.kl_div(
        class_logits[:, :classes].float().log_softmax(-1),
        wanted[:, :classes].float().softmax(-1),
        reduction="batchmean",
    )
    sure = wanted[:, classes:].float().sigmoid()
    words = functional.binary_cross_entropy_with_logits(
        class_logits[:, classes:].float(), sure, reduction="none"
    ) - functional.binary_cross_entropy(sure, sure, reduction="none")
    return divergence + WORD_SHARE * words.sum(dim=1).mean()


def joint_loss(
    model: CaptionModel,
    batch: Batch,
    *,
    teacher: nn.Module | None,
    distillation: float,
    label_smoothing: float,
) -> LossTerms:
    """``text``, and with a teacher ``memory``: the encoder must still know its names.

    The names are fed to the decoder as words, so an encoder that learns is held to the logits that it
    had before by distillation (Hinton et al., arXiv 1503.02531).
    """
    context, class_logits = model.look(batch.pixels, batch.name_ids)
    terms = {"text": text_loss(model, context, batch, label_smoothing)}
    if teacher is not None:
        with torch.no_grad():
            wanted = teacher(batch.pixels).class_logits
        terms["memory"] = distillation * name_divergence(
            class_logits, wanted, model.config.vision.num_classes
        )
    return terms


@dataclass(frozen=True)
class CaptionReward:
    """What drawn captions are worth: CIDEr-D, cut by ``repetition_cut`` for every word said twice.

    CIDEr-D counts n-grams and pays for "a kitchen with a kitchen and a sink". A word that one of the
    photo's people said twice (``said_twice``, by row of the scorer) may be said twice.
    """

    scorer: CiderD
    said_twice: Sequence[frozenset[str]]
    repetition_cut: float = 0.4

    @classmethod
    def of(cls, captions: Sequence[Sequence[str]]) -> CaptionReward:
        """Rewards against these captions of each photo."""
        words = [[tokenize(caption) for caption in row] for row in captions]
        # The end counts as a word of both sides, or captions learn to stop after "on a".
        scorer = CiderD([[said + END for said in row] for row in words], cached_images=len(words))
        return cls(scorer, [frozenset().union(*map(repeated_words, row)) for row in words])

    def score(self, photo: int, caption: str, *, ended: bool) -> float:
        """The reward of one caption of the photo in this row; ``ended`` if its end token was drawn."""
        words = tokenize(caption)
        repeated = repeated_words(words) - self.said_twice[photo]
        worth = self.scorer.score(photo, words + END if ended else words)
        return float(worth * (1 - self.repetition_cut) ** len(repeated))


@dataclass(frozen=True)
class SelfCritical:
    """Self-critical training on :class:`CaptionReward` (Rennie et al., arXiv 1612.00563).

    The baseline of a caption is the mean reward of the photo's other samples (Luo, arXiv 2003.09971).
    The policy is the decoder at ``temperature``: label smoothing has left it too flat to draw sentences
    worth a reward at 1, and greedy decoding does not depend on it. Cross-entropy goes on beside it, for
    the answers and against degenerate sentences.
    """

    reward: CaptionReward
    reference_of: Mapping[int, int]
    samples: int = 5
    max_tokens: int = 20
    temperature: float = 0.5
    text_weight: float = 0.5

    @classmethod
    def of(cls, photos: Sequence[TrainingPhoto]) -> SelfCritical:
        """Rewards against these photos' captions; an index of a batch is an index of this list.

        A photo with fewer captions than ``FEWEST_CAPTIONS`` earns none and teaches its answers alone.
        """
        described = [i for i, photo in enumerate(photos) if len(photo.captions) >= FEWEST_CAPTIONS]
        reward = CaptionReward.of([photos[i].captions for i in described])
        return cls(reward, {photo: row for row, photo in enumerate(described)})

    def __call__(self, model: CaptionModel, batch: Batch) -> LossTerms:
        """``reward`` (the loss), ``text``, and ``cider_d``, the mean reward, for the log alone."""
        context, _ = model.look(batch.pixels, batch.name_ids)
        text = self.text_weight * text_loss(model, context, batch, 0.1)
        described = [row for row, photo in enumerate(batch.photos) if photo in self.reference_of]
        if not described:
            return {"reward": 0.0 * text, "text": text, "cider_d": torch.zeros(())}
        owners = torch.tensor(described, device=batch.pixels.device).repeat_interleave(self.samples)
        repeated = context.take(owners)
        model.eval()
        drawn = model.sample_captions(repeated, self.max_tokens, self.temperature)
        model.train()
        tokenizer = model.tokenizer
        rewards = torch.tensor(
            [
                self.reward.score(
                    self.reference_of[batch.photos[described[row // self.samples]]],
                    tokenizer.decode(ids),
                    ended=tokenizer.end_id in ids,
                )
                for row, ids in enumerate(drawn.tolist())
            ],
            device=drawn.device,
        ).view(len(described), self.samples)
        others = (rewards.sum(dim=1, keepdim=True) - rewards) / (self.samples - 1)
        advantage = (rewards - others).view(-1, 1)  # [P * K, 1]
        width = int((drawn != tokenizer.pad_id).sum(dim=1).max())
        drawn = drawn[:, :width]
        start = torch.full_like(drawn[:, :1], tokenizer.caption_id)
        states = model.token_states(torch.cat((start, drawn[:, :-1]), dim=1), repeated)
        written = drawn != tokenizer.pad_id
        logits = model.decoder.logits(states[written]).float() / self.temperature
        losses = functional.cross_entropy(logits, drawn[written], reduction="none")
        return {
            "reward": (losses * advantage.expand_as(drawn)[written]).mean(),
            "text": text,
            "cider_d": rewards.mean().detach(),
        }
