"""Batches of augmented photos with the sequences that they teach, made in a thread beside training."""

from __future__ import annotations

import io
import random
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mobile_multimodal.config import TextConfig
from mobile_multimodal.errors import DataError
from mobile_multimodal.prompts import fill_slots
from mobile_multimodal.tokenizer import Tokenizer
from training.data import (
    MAX_ANSWER_TOKENS,
    MAX_CAPTION_TOKENS,
    TrainingImages,
    TrainingPhoto,
    encode_sequence,
    mirror,
    question_prompt,
)

__all__ = [
    "Batch",
    "BatchOptions",
    "BatchSource",
    "augment",
    "collate",
    "draw",
    "make_batches",
    "photo_sequences",
    "visible_names",
]

PREPARED_AHEAD = 4


@dataclass(frozen=True)
class BatchOptions:
    """How photos are drawn and augmented; ``min_crop`` is the least share of the area that a crop keeps.

    Of ``hide_names`` of the photos all names are hidden, of the others ``drop_names`` of them.
    """

    photos: int = 32
    captions_per_photo: int = 4
    questions_per_photo: int = 3
    answer_weight: float = 3.0
    min_crop: float = 0.6
    hide_names: float = 0.1
    drop_names: float = 0.1
    mirrored: float = 0.5


@dataclass(frozen=True)
class BatchSource:
    """Where batches come from: photos, their files, and the tokens of texts and names."""

    photos: Sequence[TrainingPhoto]
    images: TrainingImages
    tokenizer: Tokenizer
    name_tokens: Sequence[Sequence[int]]
    text: TextConfig
    side: int


@dataclass(frozen=True)
class Batch:
    """Pixels uint8 [B, side, side, 3]; sequences [N, W] with the photo that each belongs to [N].

    ``targets`` are learned where ``weights`` [N, W] is above 0; ``name_ids`` [B, slots] are the
    tokens of the photos' names, padded. ``photos`` are indices into the training set.
    """

    pixels: Tensor
    input_ids: Tensor
    targets: Tensor
    weights: Tensor
    photo_of_row: Tensor
    name_ids: Tensor
    photos: tuple[int, ...]


def augment(content: bytes, side: int, min_crop: float, flip: bool, rng: random.Random) -> np.ndarray:
    """A random crop of the photo, squashed to a square, maybe mirrored: uint8 [side, side, 3]."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            picture = image.convert("RGB")
    except OSError as exc:
        raise DataError(f"a training photo cannot be read: {exc}") from exc
    width, height = picture.size
    area = rng.uniform(min_crop, 1.0)
    aspect = rng.uniform(0.8, 1.25)
    crop_width = min(1.0, (area * aspect) ** 0.5)
    crop_height = min(1.0, (area / aspect) ** 0.5)
    left, top = rng.uniform(0, 1 - crop_width), rng.uniform(0, 1 - crop_height)
    box = (left * width, top * height, (left + crop_width) * width, (top + crop_height) * height)
    squashed = picture.resize((side, side), Image.Resampling.BILINEAR, box=box)
    pixels = np.asarray(squashed)
    if rng.random() < 0.8:  # brightness and contrast
        gain, shift = rng.uniform(0.75, 1.25), rng.uniform(-20, 20)
        pixels = np.clip((pixels.astype(np.float32) - 127) * gain + 127 + shift, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(pixels[:, ::-1]) if flip else pixels


def photo_sequences(
    photo: TrainingPhoto, tokenizer: Tokenizer, options: BatchOptions, flip: bool, rng: random.Random
) -> list[tuple[list[int], list[int], float]]:
    """Inputs, targets and weight of the captions and questions drawn for one photo."""

    def say(text: str) -> str:
        return mirror(text) if flip else text

    drawn = rng.sample(photo.captions, min(options.captions_per_photo, len(photo.captions)))
    start = [tokenizer.caption_id]
    rows = [(*encode_sequence(tokenizer, start, say(text), MAX_CAPTION_TOKENS), 1.0) for text in drawn]
    human = [question for question in photo.questions if not question.derived]
    derived = [question for question in photo.questions if question.derived]
    rng.shuffle(human)
    rng.shuffle(derived)
    for question in (human + derived)[: options.questions_per_photo]:
        prompt = question_prompt(tokenizer, say(question.question))
        answer = say(rng.choice(question.answers))
        rows.append((*encode_sequence(tokenizer, prompt, answer, MAX_ANSWER_TOKENS), options.answer_weight))
    return rows


def visible_names(
    photo: TrainingPhoto, source: BatchSource, options: BatchOptions, rng: random.Random
) -> list[Sequence[int]]:
    """The tokens of the names that are shown for this photo, this time."""
    if rng.random() < options.hide_names:
        return []
    return [source.name_tokens[name] for name in photo.names if rng.random() >= options.drop_names]


def collate(source: BatchSource, chosen: Sequence[int], options: BatchOptions, rng: random.Random) -> Batch:
    """One batch of the photos with these indices."""
    tokenizer = source.tokenizer
    pixels, rows, owners, names = [], [], [], []
    for slot, index in enumerate(chosen):
        photo = source.photos[index]
        flip = rng.random() < options.mirrored
        pixels.append(augment(source.images.read(photo.name), source.side, options.min_crop, flip, rng))
        names.append(visible_names(photo, source, options, rng))
        for row in photo_sequences(photo, tokenizer, options, flip, rng):
            rows.append(row)
            owners.append(slot)
    width = max(len(inputs) for inputs, _, _ in rows)
    ids = torch.full((len(rows), width), tokenizer.pad_id)
    targets = torch.full((len(rows), width), tokenizer.pad_id)
    weights = torch.zeros(len(rows), width)
    for line, (inputs, wanted, weight) in enumerate(rows):
        ids[line, : len(inputs)] = torch.tensor(inputs)
        targets[line, : len(wanted)] = torch.tensor(wanted)
        weights[line] = (targets[line] != tokenizer.pad_id) * weight
    return Batch(
        pixels=torch.from_numpy(np.stack(pixels)),
        input_ids=ids,
        targets=targets,
        weights=weights,
        photo_of_row=torch.tensor(owners),
        name_ids=torch.from_numpy(fill_slots(names, tokenizer.pad_id, source.text)),
        photos=tuple(chosen),
    )


def draw(photos: Sequence[TrainingPhoto], count: int, rng: random.Random) -> list[int]:
    """Indices of ``count`` photos by weight, spread evenly: nobody is drawn twice before its share is due."""
    total = sum(photo.weight for photo in photos)
    order = list(range(len(photos)))
    rng.shuffle(order)
    chosen: list[int] = []
    position, offset = 0.0, rng.random()
    for index in order:
        position += photos[index].weight * count / total
        while offset + len(chosen) < position:
            chosen.append(index)
    while len(chosen) < count:
        chosen.append(order[-1])
    rng.shuffle(chosen)
    return chosen[:count]


def make_batches(source: BatchSource, count: int, options: BatchOptions, seed: int) -> Iterator[Batch]:
    """Batches of ``count`` photos drawn by weight, prepared by two threads, in an order set by the seed."""
    rng = random.Random(seed)
    chosen = draw(source.photos, count, rng)
    groups = [chosen[i : i + options.photos] for i in range(0, count, options.photos)]

    def prepare(number: int) -> Batch:
        # A seed a batch: what a batch holds does not depend on how threads are scheduled.
        return collate(source, groups[number], options, random.Random(seed * 1_000_003 + number))

    with ThreadPoolExecutor(max_workers=2) as pool:
        waiting: deque[Future[Batch]] = deque()
        for number in range(len(groups)):
            waiting.append(pool.submit(prepare, number))
            if len(waiting) > PREPARED_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
