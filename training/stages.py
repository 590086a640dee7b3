"""The loop of every stage with images: draw, lose, step, average, validate, keep the best, resume."""

from __future__ import annotations

import copy
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from mobile_multimodal.config import ModelConfig
from mobile_multimodal.errors import DataError, MmllmError, UsageError
from mobile_multimodal.tokenizer import Tokenizer
from training.batches import Batch, BatchOptions, BatchSource, make_batches
from training.caption_model import CaptionModel
from training.checkpoint import RunLog, load_checkpoint, save_checkpoint
from training.data import TrainingImages, TrainingPhoto
from training.losses import LossTerms
from training.optimization import AveragedWeights, adamw, cosine_lr, fast_arithmetic
from training.validation import Validation
from training.words import load_words, named_backbone

__all__ = ["Stage", "StageOptions", "start_model", "to_device", "train_segment", "train_stage"]

LOGGED_ONLY = frozenset({"cider_d"})
"""Terms that are figures for the log, not losses."""


@dataclass(frozen=True)
class StageOptions:
    """One stage; ``train_blocks_from`` is the first encoder block that learns, None for none."""

    name: str
    segments: int
    photos_per_segment: int
    peak_lr: float
    encoder_lr: float = 0.0
    train_blocks_from: int | None = None
    warmup: int = 100
    weight_decay: float = 0.05
    dropout: float = 0.1
    average_decay: float = 0.998
    batch: BatchOptions = field(default_factory=BatchOptions)
    seed: int = 1


@dataclass(frozen=True)
class Stage:
    """What all stages share: data, sizes, where checkpoints go, and what chooses among them.

    ``names`` are the texts of the encoder's classes and caption words.
    """

    photos: Sequence[TrainingPhoto]
    images: TrainingImages
    names: Sequence[str]
    run: Path
    config: ModelConfig
    tokenizer: Tokenizer
    validation: Validation
    device: str


def to_device(batch: Batch, device: str) -> Batch:
    """The batch with its tensors on the device."""
    return Batch(
        batch.pixels.to(device),
        batch.input_ids.to(device),
        batch.targets.to(device),
        batch.weights.to(device),
        batch.photo_of_row.to(device),
        batch.name_ids.to(device),
        batch.photos,
    )


def start_model(stage: Stage, start_from: Path, options: StageOptions) -> CaptionModel:
    """The model with the weights of an earlier stage.

    Behind pre-training the encoder is ImageNet's, with the word layer beside its classes.

    Raises:
        DataError: the earlier stage has left no checkpoint.
    """
    model = CaptionModel(stage.config, stage.tokenizer, stage.names, options.dropout)
    initial = load_checkpoint(start_from)
    if initial is None:
        raise DataError(f"{start_from} is missing", remedy="run the stages in order: python -m training all")
    if "model" in initial:
        model.load_state_dict(initial["model"])
    else:
        model.decoder.load_state_dict(initial["decoder"])
        layer, _ = load_words(stage.run)
        model.encoder.backbone = named_backbone(stage.config.vision, layer)
    model.learn_blocks_from(options.train_blocks_from)
    return model.to(stage.device)


def train_stage(
    stage: Stage,
    start_from: Path,
    options: StageOptions,
    loss: Callable[[CaptionModel, Batch], LossTerms],
    prepare: Callable[[CaptionModel], None] | None = None,
) -> Path:
    """Train; resumes from ``NAME.pt``; returns ``NAME-best.pt``, the averaged weights with the best score.

    ``prepare`` is what is done to the model when it holds the weights that the stage starts from.
    """
    path, best_path = stage.run / f"{options.name}.pt", stage.run / f"{options.name}-best.pt"
    log = RunLog(stage.run / "log.jsonl")
    torch.manual_seed(options.seed)
    model = start_model(stage, start_from, options)
    if prepare is not None:
        prepare(model)
    optimizer = adamw(
        {
            model.decoder: options.peak_lr,
            model.encoder.projector: options.peak_lr,
            model.encoder.backbone: options.encoder_lr,
        },
        options.weight_decay,
    )
    average = AveragedWeights(model, options.average_decay)
    first, best = 0, -1.0
    if (state := load_checkpoint(path)) is not None:
        if state.get("options", repr(options)) != repr(options):
            raise UsageError(f"{path} was made with other options", remedy="name another --run, or delete it")
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average.resume(state["average"], state["average_steps"])
        first, best = state["segment"], state["best"]
    for segment in range(first, options.segments):
        began = time.monotonic()
        means = train_segment(stage, model, optimizer, average, loss, options, segment)
        rate = options.photos_per_segment / (time.monotonic() - began)
        averaged = copy.deepcopy(model)
        averaged.load_state_dict(average.state)
        figures = stage.validation.measure(averaged)
        log.write(
            options.name,
            segment=segment + 1,
            total=options.segments,
            photos_per_s=rate,
            **means,
            **figures,
        )
        if figures["score"] > best:
            best = figures["score"]
            save_checkpoint(best_path, model=average.state, segment=segment + 1, figures=figures)
        save_checkpoint(
            path,
            model=model.state_dict(),
            optimizer=optimizer.state_dict(),
            average=average.state,
            average_steps=average.steps,
            segment=segment + 1,
            best=best,
            options=repr(options),
        )
    return best_path


def train_segment(
    stage: Stage,
    model: CaptionModel,
    optimizer: torch.optim.Optimizer,
    average: AveragedWeights,
    loss: Callable[[CaptionModel, Batch], LossTerms],
    options: StageOptions,
    segment: int,
) -> dict[str, float]:
    """One pass over ``photos_per_segment`` photos → the mean of every term."""
    model.train()
    steps = -(-options.photos_per_segment // options.batch.photos)
    sums: dict[str, float] = defaultdict(float)
    seed = options.seed * 10_007 + segment
    began = time.monotonic()
    source = BatchSource(
        stage.photos,
        stage.images,
        stage.tokenizer,
        model.name_tokens,
        stage.config.text,
        stage.config.vision.image_size,
    )
    batches = make_batches(source, options.photos_per_segment, options.batch, seed)
    for number, batch in enumerate(batches, start=1):
        for group in optimizer.param_groups:
            step = segment * steps + number - 1
            group["lr"] = cosine_lr(step, options.segments * steps, group["peak_lr"], options.warmup)
        with fast_arithmetic(stage.device):
            terms = loss(model, to_device(batch, stage.device))
        total: Tensor = torch.stack([term for name, term in terms.items() if name not in LOGGED_ONLY]).sum()
        if not torch.isfinite(total):
            raise MmllmError(
                f"{options.name}: the loss is {total.item()} in step {number} of segment {segment + 1}",
                remedy="start it again from its last checkpoint, or with a smaller rate",
            )
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        average.update(model)
        for name, term in terms.items():
            sums[name] += term.item()
        if number % 25 == 0:
            shown = " ".join(f"{name}={value / number:.3f}" for name, value in sums.items())
            rate = number * options.batch.photos / (time.monotonic() - began)
            place = f"{options.name} {segment + 1}/{options.segments}: {number}/{steps}"
            print(place, shown, f"{rate:.1f} photos/s", flush=True)
    return {name: value / steps for name, value in sums.items()}
