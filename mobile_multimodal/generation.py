"""Prefill and decode over a backend: batched beam search with a static cache; one beam is greedy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mobile_multimodal.backends import Array, Backend
from mobile_multimodal.config import TextConfig
from mobile_multimodal.prompts import Prompt
from mobile_multimodal.results import GenerationConfig, GenerationResult
from mobile_multimodal.tokenizer import SPECIAL_TOKENS, Tokenizer

__all__ = ["MASKED", "Beam", "DecoderState", "ImageFeatures", "generate", "log_softmax"]

MASKED = np.float32(-1e4)
GROWTH = 8
"""Tokens by which a full cache grows."""
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class ImageFeatures:
    """What the encoder found in a batch of images.

    ``key`` and ``value`` [L, B, H, M, d] for the decoder, ``class_logits`` [B, classes].
    """

    key: Floats
    value: Floats
    class_logits: Floats

    def take(self, rows: NDArray[np.int64]) -> ImageFeatures:
        """The features of these rows, in this order; a row may come more than once."""
        return ImageFeatures(self.key[:, rows], self.value[:, rows], self.class_logits[rows])


@dataclass(frozen=True)
class Beam:
    """One finished or unfinished hypothesis."""

    tokens: tuple[int, ...]
    log_probability: float
    finished: bool

    def score(self, length_penalty: float) -> float:
        """Log-probability normalised by length; the end token counts."""
        length = len(self.tokens) + int(self.finished)
        return self.log_probability / float(length**length_penalty)


def log_softmax(logits: Floats) -> Floats:
    """Log-softmax over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


class DecoderState:
    """The cache of a batch: keys and values [L, R, H, T, d], filled from the left, the rest masked.

    It grows by ``GROWTH`` tokens whenever it is full: the decoder reads all of it at every step.
    """

    def __init__(self, backend: Backend, features: ImageFeatures, prompt: Prompt, text: TextConfig) -> None:
        self.backend, self.features = backend, features
        rows, steps = prompt.input_ids.shape
        # A row's next token follows its own prompt, whatever padding the batch gave it.
        self.next_position = text.num_name_slots + prompt.lengths
        causal = np.tril(np.ones((steps, steps), dtype=np.bool_))
        mask = np.where(causal & prompt.visible[:, None, None, :], np.float32(0), MASKED)
        empty = np.zeros((text.num_layers, rows, text.num_heads, 0, text.head_dim), np.float32)
        output = self._run(prompt.input_ids, prompt.position_ids, mask, empty, empty)
        self.key = output["new_key"].astype(np.float32, copy=False)
        self.value = output["new_value"].astype(np.float32, copy=False)
        self.visible, self.used = prompt.visible, steps
        last = prompt.visible.sum(axis=1) - 1
        self.logits: Floats = output["logits"][np.arange(rows), last].astype(np.float32)  # [R, V]

    def _run(self, ids: Array, positions: Array, mask: Array, key: Array, value: Array) -> dict[str, Array]:
        return self.backend.run(
            "text_decoder",
            {
                "input_ids": ids,
                "position_ids": positions,
                "attention_mask": mask,
                "image_key": self.features.key,
                "image_value": self.features.value,
                "past_key": key,
                "past_value": value,
            },
        )

    def reorder(self, rows: NDArray[np.int64]) -> None:
        """Continue from these rows of the batch."""
        if np.array_equal(rows, np.arange(len(self.visible))):
            return
        self.features = self.features.take(rows)
        self.key, self.value = self.key[:, rows], self.value[:, rows]
        self.visible, self.next_position = self.visible[rows], self.next_position[rows]

    def step(self, tokens: NDArray[np.int64]) -> None:
        """Append one token to every row [R] and compute the logits of the next."""
        rows = len(tokens)
        if self.used == self.visible.shape[1]:
            self.key, self.value = (
                np.pad(x, [(0, 0)] * 3 + [(0, GROWTH), (0, 0)]) for x in (self.key, self.value)
            )
            self.visible = np.pad(self.visible, [(0, 0), (0, GROWTH)])
        visible = np.concatenate((self.visible, np.ones((rows, 1), dtype=np.bool_)), axis=1)
        mask = np.where(visible, np.float32(0), MASKED)[:, None, None, :]
        output = self._run(tokens[:, None], self.next_position[:, None], mask, self.key, self.value)
        self.key[:, :, :, self.used], self.value[:, :, :, self.used] = (
            output["new_key"][:, :, :, 0],
            output["new_value"][:, :, :, 0],
        )
        self.visible[:, self.used] = True
        self.used += 1
        self.next_position = self.next_position + 1
        self.logits = output["logits"][:, -1].astype(np.float32)


def generate(
    backend: Backend,
    features: ImageFeatures,
    prompt: Prompt,
    text: TextConfig,
    tokenizer: Tokenizer,
    config: GenerationConfig,
) -> list[GenerationResult]:
    """Write a text for every row of the prompt, all rows at once; finished rows leave the batch."""
    batch = len(prompt.lengths)
    markers = [i for i in range(len(SPECIAL_TOKENS)) if i != tokenizer.end_id]
    room = min(config.max_tokens, text.max_positions - text.num_name_slots - int(prompt.lengths.max()))
    state = DecoderState(backend, features, prompt, text)
    alive = [[Beam((), 0.0, False)] for _ in range(batch)]
    finished: list[list[Beam]] = [[] for _ in range(batch)]
    for step in range(room):
        state.logits[:, markers] = MASKED
        if step == 0:  # an empty text is no caption and no answer
            state.logits[:, tokenizer.end_id] = MASKED
        log_probabilities = log_softmax(state.logits)
        rows, row = [], 0
        for image in range(batch):
            if not (count := len(alive[image])):
                continue
            scores = log_probabilities[row : row + count] + np.array(
                [[beam.log_probability] for beam in alive[image]], dtype=np.float32
            )
            alive[image], parents = _advance(alive[image], scores, finished[image], tokenizer.end_id, config)
            rows += [row + parent for parent in parents]
            row += count
        if not rows or step + 1 == room:
            break
        state.reorder(np.array(rows, dtype=np.int64))
        state.step(np.array([beam.tokens[-1] for row in alive for beam in row], dtype=np.int64))
    results = []
    for image in range(batch):
        # With one beam there is one hypothesis; with more, a finished one beats every cut-off one.
        candidates = finished[image] or alive[image]
        best = max(candidates, key=lambda beam: beam.score(config.length_penalty))
        results.append(
            GenerationResult(
                text=tokenizer.decode(best.tokens),
                token_ids=best.tokens,
                confidence=float(np.exp(best.score(1.0))),
                finish_reason="stop" if best.finished else "length",
            )
        )
    return results


def _advance(
    alive: list[Beam], scores: Floats, finished: list[Beam], end_id: int, config: GenerationConfig
) -> tuple[list[Beam], list[int]]:
    """One step of one image: the best continuations, and which beam each came from."""
    vocabulary = scores.shape[1]
    wanted = 2 * config.num_beams if config.num_beams > 1 else 1
    flat = scores.ravel()
    best = np.argpartition(-flat, wanted - 1)[:wanted] if wanted > 1 else np.array([flat.argmax()])
    best = best[np.argsort(-flat[best], kind="stable")]
    following: list[Beam] = []
    parents: list[int] = []
    for rank, index in enumerate(best):
        parent, token = divmod(int(index), vocabulary)
        if token == end_id:
            if rank < config.num_beams:
                finished.append(Beam(alive[parent].tokens, float(flat[index]), True))
        elif len(following) < config.num_beams:
            following.append(Beam((*alive[parent].tokens, token), float(flat[index]), False))
            parents.append(parent)
    if len(finished) >= config.num_beams:
        return [], []
    return following, parents
