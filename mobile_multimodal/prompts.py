"""What the decoder reads before it writes: class names of the image, then the task and its question."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mobile_multimodal.config import ModelConfig, TextConfig, VisionConfig
from mobile_multimodal.errors import UsageError
from mobile_multimodal.results import TaskRequest
from mobile_multimodal.tokenizer import Tokenizer

__all__ = ["Prompt", "build_prompts", "choose_names", "fill_slots", "sigmoid", "softmax", "task_tokens"]


@dataclass(frozen=True)
class Prompt:
    """Tokens of a batch, right-padded: ids, the positions that they stand for, and which count, each [B, S].

    Class names stand at the first ``num_name_slots`` positions, of which empty ones are left out, and the
    task's tokens behind all of them; ``lengths`` [B] counts the latter.
    """

    input_ids: NDArray[np.int64]
    position_ids: NDArray[np.int64]
    visible: NDArray[np.bool_]
    lengths: NDArray[np.int64]


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Softmax over the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: NDArray[np.float32] = shifted / shifted.sum(axis=-1, keepdims=True)
    return result


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """The logistic function."""
    result: NDArray[np.float32] = 0.5 * (1 + np.tanh(0.5 * logits))
    return result


def choose_names(
    class_logits: NDArray[np.float32], vision: VisionConfig, text: TextConfig
) -> list[list[int]]:
    """Which names are given to the decoder: for each row of ``class_logits`` [B, names] their indices.

    First the likeliest ImageNet classes, which exclude each other, then the likeliest caption words, which
    do not; likely ones first.
    """
    classes, words = class_logits[:, : vision.num_classes], class_logits[:, vision.num_classes :]
    groups = (
        (softmax(classes), 0, text.num_class_names, text.min_name_probability),
        (sigmoid(words), vision.num_classes, text.num_words, text.min_word_probability),
    )
    chosen: list[list[int]] = [[] for _ in class_logits]
    for probabilities, first, most, least in groups:
        order = np.argsort(-probabilities, axis=-1, kind="stable")[:, :most]
        for names, row, ranked in zip(chosen, probabilities, order, strict=True):
            names += [first + int(index) for index in ranked if row[index] >= least]
    return chosen


def fill_slots(
    names: Sequence[Sequence[Sequence[int]]], pad_id: int, config: TextConfig
) -> NDArray[np.int64]:
    """The tokens of each row's names side by side, padded: ids [B, num_name_slots].

    A name that no longer fits is left out with those behind it.
    """
    ids = np.full((len(names), config.num_name_slots), pad_id, dtype=np.int64)
    for row, tokens in enumerate(names):
        used = 0
        for name in tokens:
            if used + len(name) > config.num_name_slots:
                break
            ids[row, used : used + len(name)] = name
            used += len(name)
    return ids


def task_tokens(request: TaskRequest, tokenizer: Tokenizer, config: TextConfig) -> list[int]:
    """The tokens behind the class names: ``<caption>``, or ``<question> … <answer>``.

    Raises:
        UsageError: the question leaves no room for an answer.
    """
    if request.task == "caption":
        return [tokenizer.caption_id]
    question = tokenizer.encode((request.question or "").strip().rstrip("?").strip())
    room = config.max_positions - config.num_name_slots - 32
    if len(question) > room:
        raise UsageError(
            f"the question has {len(question)} tokens, more than {room}", remedy="ask a shorter one"
        )
    return [tokenizer.question_id, *question, tokenizer.answer_id]


def build_prompts(
    class_logits: NDArray[np.float32],
    tasks: Sequence[Sequence[int]],
    name_tokens: Callable[[int], Sequence[int]],
    tokenizer: Tokenizer,
    config: ModelConfig,
) -> Prompt:
    """Names and task tokens side by side; ``class_logits`` [B, names], ``tasks`` B rows."""
    chosen = choose_names(class_logits, config.vision, config.text)
    tokens = [[name_tokens(name) for name in row] for row in chosen]
    names = fill_slots(tokens, tokenizer.pad_id, config.text)
    lengths = np.array([len(task) for task in tasks], dtype=np.int64)
    ids = np.full((len(tasks), int(lengths.max())), tokenizer.pad_id, dtype=np.int64)
    for row, task in enumerate(tasks):
        ids[row, : len(task)] = task
    whole = np.concatenate((names, ids), axis=1)
    counts = np.concatenate((names != tokenizer.pad_id, np.arange(ids.shape[1]) < lengths[:, None]), axis=1)
    # What counts, in its order; the rest is computed by nobody unless another row is longer.
    columns = np.argsort(~counts, axis=1, kind="stable")[:, : int(counts.sum(axis=1).max())]
    return Prompt(
        np.take_along_axis(whole, columns, axis=1),
        columns.astype(np.int64),
        np.take_along_axis(counts, columns, axis=1),
        lengths,
    )
