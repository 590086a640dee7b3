"""The stages' data as it lies in the data folder and the run's: photos, names, vocabularies, validation."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from benchmarks.image_store import ImageStore
from mobile_multimodal.bundle import ModelBundle
from mobile_multimodal.config import ModelConfig, VisionConfig
from mobile_multimodal.prompts import choose_names
from training.checkpoint import load_checkpoint, save_checkpoint
from training.data import DRAWN, TrainingImages, TrainingPhoto, load_photos, read_rows
from training.keywords import word_vocabulary
from training.prepare import read_class_names, train_tokenizer
from training.prune_names import kept_names, names_shown, prune_names
from training.schedule import COCO_WEIGHTS, DRAWN_WEIGHTS
from training.stages import Stage, StageOptions
from training.validation import Validation
from training.words import load_words, named_backbone, pool_photos

__all__ = [
    "drawn_pages",
    "model_config",
    "open_stage",
    "prune_stage",
    "shrink",
    "training_images",
    "unlabelled_photos",
]

CALIBRATION_PAGES = 40
FEWEST_PHOTOS = 2
"""A name that fewer training photos show is not worth its bytes in the smallest model."""


def model_config(data: Path, run: Path) -> ModelConfig:
    """The sizes of the default model; the number of its caption words follows from the data."""
    vision = VisionConfig(num_words=len(word_vocabulary(data, run)))
    return ModelConfig(vision=vision)


def training_images(data: Path, run: Path) -> TrainingImages:
    """The photos of the data folder, and the pictures drawn in the run's."""
    return TrainingImages([ImageStore(data), ImageStore(run)])


def open_stage(data: Path, run: Path, device: str, name: str) -> Stage:
    """Data, vocabularies and validation photos of the stages with images."""
    config = model_config(data, run)
    _, names = load_words(run)
    return Stage(
        photos=load_photos(
            data,
            run / "questions.jsonl",
            COCO_WEIGHTS[name],
            drawn=run / DRAWN,
            drawn_weight=DRAWN_WEIGHTS[name],
            names=names,
        ),
        images=training_images(data, run),
        names=[*read_class_names(), *word_vocabulary(data, run)],
        run=run,
        config=config,
        tokenizer=train_tokenizer(data, run / "tokenizer.json", config.text),
        validation=Validation.open(data, ImageStore(data), config.vision.image_size),
        device=device,
    )


def unlabelled_photos(data: Path, run: Path, weight: float) -> list[TrainingPhoto]:
    """Photos that nobody described: what a teacher sees and says of them can be learned all the same.

    Their names come from the word layer, which has not seen them; ``unlabelled.pt`` in the run's folder
    keeps them. Data without ``unlabelled.jsonl`` has none.
    """
    if not (data / "unlabelled.jsonl").exists():
        return []
    photos = [row["image"] for row in read_rows(data / "unlabelled.jsonl")]
    path = run / "unlabelled.pt"
    if (state := load_checkpoint(path)) is None:
        config = model_config(data, run)
        layer, _ = load_words(run)
        _, logits = pool_photos(
            named_backbone(config.vision, layer), photos, TrainingImages([ImageStore(data)]), "cpu"
        )
        state = {"names": choose_names(logits.numpy(), config.vision, config.text)}
        save_checkpoint(path, **state)
    return [
        TrainingPhoto(photo, (), (), weight, tuple(names))
        for photo, names in zip(photos, state["names"], strict=True)
    ]


def shrink(options: StageOptions, share: float) -> StageOptions:
    """The stage with this share of its photos, at least one batch a segment."""
    photos = max(options.batch.photos, round(options.photos_per_segment * share))
    return dataclasses.replace(options, photos_per_segment=photos)


def drawn_pages(run: Path) -> list[Path]:
    """Some of the run's drawn pictures with text to read: what the text reader is calibrated on."""
    pages = [run / row["image"] for row in read_rows(run / DRAWN) if "begins with" in row["captions"][0]]
    return pages[:: max(1, len(pages) // CALIBRATION_PAGES)][:CALIBRATION_PAGES]


def prune_stage(
    stage: Stage, source: ModelBundle, card: Path | None, trained: ModelBundle | None = None
) -> tuple[Stage, ModelBundle]:
    """The stage, to train ``source`` without the names that hardly any photo shows, and that bundle.

    ``card`` is the bundle's model card, None to keep that of the source. Names are matched by their texts;
    one that the stage does not have cannot be judged and stays. With ``trained``, a bundle that was made of
    ``source`` so, its names stay.
    """
    place = {text: index for index, text in enumerate(source.class_names)}
    texts = [[stage.names[index] for index in photo.names] for photo in stage.photos]
    if trained is not None:
        kept = kept_names(source, trained)
    else:
        shown = [[place[text] for text in row if text in place] for row in texts]
        judged = set(stage.names)
        unjudged = {index for text, index in place.items() if text not in judged}
        kept = sorted({*names_shown(shown, FEWEST_PHOTOS), *unjudged})
    pruned = prune_names(source, kept, stage.run / "pruned", card=card, force=True)
    index_of = {text: index for index, text in enumerate(pruned.class_names)}
    photos = [
        dataclasses.replace(photo, names=tuple(index_of[text] for text in row if text in index_of))
        for photo, row in zip(stage.photos, texts, strict=True)
    ]
    return dataclasses.replace(stage, photos=photos, names=pruned.class_names, config=pruned.config), pruned
