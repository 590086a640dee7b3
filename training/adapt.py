"""One's own captioned pictures: go on training from a bundle, and see whether that helped."""

from __future__ import annotations

import copy
import functools
import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.caption_metrics import tokenize
from benchmarks.evaluation_data import sample
from mobile_multimodal.backends.torch_backend import TorchBackend, load_modules
from mobile_multimodal.bundle import ModelBundle, check_output, find_model, load_bundle
from mobile_multimodal.errors import UsageError
from mobile_multimodal.preprocessing import preprocess
from mobile_multimodal.prompts import choose_names
from training.batches import BatchOptions
from training.build import build_artifact, build_bundle
from training.caption_model import CaptionModel
from training.checkpoint import load_checkpoint, save_checkpoint
from training.data import MAX_CAPTION_TOKENS, TrainingImages, TrainingPhoto
from training.losses import joint_loss
from training.own_figures import AdaptReport, OwnValidation, write_card
from training.own_pictures import OwnPicture, OwnPictures, split_pictures
from training.stages import Stage, StageOptions, train_stage

__all__ = [
    "AdaptOptions",
    "adapt_model",
    "fingerprint",
    "own_validation",
    "training_photos",
]

MEASURED = 100
"""At most so many of the pictures that are learned from are captioned for the figures."""
SEGMENTS = 6
PHOTOS_AT_ONCE = 50
LEARNING_BLOCKS = 6
ADAPTED = "-adapted"
READER = ("text_detector", "text_recognizer")


@dataclass(frozen=True)
class AdaptOptions:
    """How to learn: ``rate`` is the decoder's peak learning rate.

    ``epochs`` None takes 20 passes over few pictures and down to 5 over many. An ``encoder_rate`` above 0
    lets the encoder's last blocks learn too.

    Raises:
        UsageError: no pass, no picture, or a rate that is not above 0 (of the encoder: below 0).
    """

    epochs: int | None = None
    rate: float = 2e-4
    encoder_rate: float = 0.0
    batch: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in (("epochs", self.epochs), ("batch", self.batch)):
            if value is not None and value < 1:
                raise UsageError(f"{name} {value} is below 1")
        if not (0.0 < self.rate < 1.0 and 0.0 <= self.encoder_rate < 1.0):
            raise UsageError(f"rates {self.rate} and {self.encoder_rate} are not between 0 and 1")

    def passes(self, pictures: int) -> int:
        """How often each of so many pictures is seen."""
        return self.epochs if self.epochs is not None else min(20, max(5, 4000 // pictures))


def _load_pixels(own: OwnPictures, rows: Sequence[OwnPicture], side: int) -> NDArray[np.uint8]:
    return np.stack([preprocess(own.store.load(row.image, row.where).pixels, side) for row in rows])


def training_photos(own: OwnPictures, encoder: nn.Module, bundle: ModelBundle) -> list[TrainingPhoto]:
    """The pictures with the names that the encoder gives them before it learns from them."""
    config, backend = bundle.config, TorchBackend({"vision_encoder": encoder})
    photos = []
    for start in range(0, len(own.rows), PHOTOS_AT_ONCE):
        rows = own.rows[start : start + PHOTOS_AT_ONCE]
        pixels = _load_pixels(own, rows, config.vision.image_size)
        output = backend.run("vision_encoder", {"pixel_values": pixels})
        logits = output["class_logits"].astype(np.float32)
        for row, names in zip(rows, choose_names(logits, config.vision, config.text), strict=True):
            photos.append(TrainingPhoto(row.image, row.captions, row.questions, 1.0, tuple(names)))
    return photos


def own_validation(learned: OwnPictures, held_out: OwnPictures, side: int) -> OwnValidation:
    """The held-out pictures, and some of those that are learned from, with their captions and questions."""
    parts = {"held_out": (held_out, held_out.rows), "learned": (learned, sample(learned.rows, MEASURED))}
    rows = [row for _, chosen in parts.values() for row in chosen]
    return OwnValidation(
        pixels=np.concatenate([_load_pixels(own, chosen, side) for own, chosen in parts.values()]),
        sources=[part for part, (_, chosen) in parts.items() for _ in chosen],
        references=[[tokenize(caption) for caption in row.captions] for row in rows],
        questions=[
            (index, question.question, question.answers)
            for index, row in enumerate(rows)
            for question in row.questions
        ],
    )


def fingerprint(parts: Sequence[OwnPictures], bundle: ModelBundle, options: object) -> str:
    """What a run is resumed by: the same pictures, texts, options and start."""
    digest = hashlib.sha256(f"{bundle.sha256} {options}".encode())
    for own in parts:
        for row in own.rows:
            digest.update(repr((row.image, row.captions, row.questions)).encode())
            digest.update(hashlib.sha256(own.store.read(row.image)).digest())
    return digest.hexdigest()[:12]


def _stage_options(model: CaptionModel, pictures: int, options: AdaptOptions) -> StageOptions:
    """The passes cut into segments of whole batches; a figure stands behind each."""
    batch = BatchOptions(photos=min(options.batch, pictures), captions_per_photo=2)
    steps = -(-options.passes(pictures) * pictures // (SEGMENTS * batch.photos))
    blocks = len(model.encoder.backbone.blocks)
    return StageOptions(
        name="adapt",
        segments=SEGMENTS,
        photos_per_segment=steps * batch.photos,
        peak_lr=options.rate,
        encoder_lr=options.encoder_rate,
        train_blocks_from=blocks - LEARNING_BLOCKS if options.encoder_rate else None,
        warmup=steps,
        average_decay=0.9,
        batch=batch,
        seed=options.seed,
    )


def _teacher(model: CaptionModel, options: AdaptOptions) -> nn.Module | None:
    """The encoder as it was, which one that learns is held to; one that does not learn needs none."""
    if not options.encoder_rate:
        return None
    return copy.deepcopy(model.encoder.backbone).eval().requires_grad_(False)


def adapt_model(
    data: Path,
    output: Path,
    options: AdaptOptions,
    *,
    val: Path | None = None,
    source: Path | None = None,
    device: str = "cpu",
    force: bool = False,
    even_if_worse: bool = False,
) -> AdaptReport:
    """Train the captioner of ``source`` (default: the packaged model) further on the pictures of ``data``.

    The state that does best on the held-out pictures is written to ``output/bundle`` and
    ``output/onnx_int8``, with the vocabulary, names and text reader of the source; where none does better
    than the source did, nothing is written unless ``even_if_worse``. An interrupted run goes on from the
    checkpoints in ``output``; other pictures or options start anew. Confidences of the new model are raw.

    Raises:
        DataError: as :func:`split_pictures`, or a picture that cannot be read.
        BundleError: ``source`` cannot be loaded.
        UsageError: the output exists and ``force`` is not given, or ``source`` has no weights to train.
    """
    if device != "cpu" and not (device == "cuda" and torch.cuda.is_available()):
        raise UsageError(f"device {device!r} is not there", remedy="cpu, or cuda where a GPU is installed")
    for name in ("bundle", "onnx_int8"):
        check_output(output / name, force=force)
    learned, held_out = split_pictures(data, val)
    bundle = load_bundle(source or find_model(None, "torch"))
    if bundle.manifest.kind != "bundle":
        raise UsageError(f"{bundle.directory} is an exported model", remedy="name its bundle with --from")
    # A calibration was measured on the model as it was.
    config = replace(
        bundle.config, name=f"{bundle.config.name.removesuffix(ADAPTED)}{ADAPTED}", calibration={}
    )
    modules = load_modules(bundle)
    # One place knows how the model that trains is put together from a bundle's components.
    model = CaptionModel(config, bundle.tokenizer, bundle.class_names, 0.0)
    model.encoder.load_state_dict(modules["vision_encoder"].state_dict())
    model.decoder.load_state_dict(modules["text_decoder"].state_dict())
    validation = own_validation(learned, held_out, config.vision.image_size)
    photos = training_photos(learned, modules["vision_encoder"], bundle)
    print(f"{len(photos)} pictures to learn from, {options.passes(len(photos))} times each", flush=True)
    texts = bundle.tokenizer.encode_batch([text for photo in photos for text in photo.captions])
    if cut := sum(len(tokens) > MAX_CAPTION_TOKENS for tokens in texts):
        print(f"note: {cut} captions have more than {MAX_CAPTION_TOKENS} tokens; their ends are not learned")
    run = output / f"checkpoints-{fingerprint((learned, held_out), bundle, options)}"
    start = run / "start.pt"
    save_checkpoint(start, model=model.state_dict())
    before = validation.measure(model.to(device))
    stage = Stage(
        photos=photos,
        images=TrainingImages([learned.store]),
        names=bundle.class_names,
        run=run,
        config=config,
        tokenizer=bundle.tokenizer,
        validation=validation,
        device=device,
    )
    loss = functools.partial(
        joint_loss, teacher=_teacher(model, options), distillation=0.5, label_smoothing=0.1
    )
    best = train_stage(stage, start, _stage_options(model, len(photos), options), loss)
    state = load_checkpoint(best)
    assert state is not None
    report = AdaptReport(len(photos), len(held_out.rows), before, state["figures"], None)
    if not (report.has_improved or even_if_worse):
        return report
    card = write_card(run / "README.md", bundle, report)
    reader = {name: modules[name].state_dict() for name in READER if name in modules}
    names, folder = bundle.class_names, output / "bundle"
    build_bundle(best, bundle.tokenizer, config, names, reader, folder, card=card, force=force)
    artifact = build_artifact(folder, output / "onnx_int8", recipe="weight_only_wi8_afp32", force=force)
    for finished in output.glob("checkpoints-*"):
        shutil.rmtree(finished)
    return replace(report, artifact=artifact.directory)
