"""What the decoder reads before it writes: class names of the image, then the task and its question."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mobile_multimodal.config import TextConfig
from mobile_multimodal.errors import UsageError
from mobile_multimodal.results import TaskRequest
from mobile_multimodal.tokenizer import Tokenizer

__all__ = ["Prompt", "build_prompts", "class_name_slots", "softmax", "task_tokens"]


@dataclass(frozen=True)
class Prompt:
    """Token ids of a batch [B, S], right-padded, and which of them count [B, S].

    The first ``num_name_slots`` columns hold class names; ``lengths`` [B] counts the task tokens behind.
    """

    input_ids: NDArray[np.int64]
    visible: NDArray[np.bool_]
    lengths: NDArray[np.int64]


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Softmax over the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: NDArray[np.float32] = shifted / shifted.sum(axis=-1, keepdims=True)
    return result


def class_name_slots(
    class_logits: NDArray[np.float32],
    name_tokens: Callable[[int], Sequence[int]],
    pad_id: int,
    config: TextConfig,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The most likely class names, best first, as tokens: ids and visible [B, num_name_slots].

    ``class_logits`` [B, classes]; ``name_tokens`` gives the tokens of a class's name. A name that no
    longer fits is left out with those behind it.
    """
    batch = class_logits.shape[0]
    ids = np.full((batch, config.num_name_slots), pad_id, dtype=np.int64)
    probabilities = softmax(class_logits)
    for row in range(batch):
        used = 0
        for label in np.argsort(-probabilities[row], kind="stable")[: config.num_class_names]:
            name = name_tokens(int(label))
            if (
                probabilities[row, label] < config.min_name_probability
                or used + len(name) > config.num_name_slots
            ):
                break
            ids[row, used : used + len(name)] = name
            used += len(name)
    return ids, ids != pad_id


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
    config: TextConfig,
) -> Prompt:
    """Class names and task tokens side by side; ``class_logits`` [B, classes], ``tasks`` B rows."""
    names, names_visible = class_name_slots(class_logits, name_tokens, tokenizer.pad_id, config)
    lengths = np.array([len(task) for task in tasks], dtype=np.int64)
    ids = np.full((len(tasks), int(lengths.max())), tokenizer.pad_id, dtype=np.int64)
    for row, task in enumerate(tasks):
        ids[row, : len(task)] = task
    visible = np.arange(ids.shape[1]) < lengths[:, None]
    return Prompt(
        np.concatenate((names, ids), axis=1), np.concatenate((names_visible, visible), axis=1), lengths
    )
