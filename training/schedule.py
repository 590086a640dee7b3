"""The sizes of the default recipe: how long each stage learns, how fast, and from what."""

from __future__ import annotations

from dataclasses import replace

from training.batches import BatchOptions
from training.stages import StageOptions

__all__ = [
    "COCO_WEIGHTS",
    "DRAWN_PICTURES",
    "DRAWN_WEIGHTS",
    "FINETUNE",
    "FROZEN",
    "INT2",
    "INT2_ON",
    "POLISH",
    "SELF_CRITICAL",
]

DRAWN_PICTURES = 2200
FROZEN = StageOptions(name="frozen", segments=6, photos_per_segment=6000, peak_lr=6e-4, seed=1)
FINETUNE = StageOptions(
    name="finetune",
    segments=5,
    photos_per_segment=5000,
    # Answers are far from learned by heart when captions are learned (50 % on training questions).
    batch=BatchOptions(captions_per_photo=3, questions_per_photo=5, answer_weight=6.0),
    peak_lr=3e-4,
    encoder_lr=8e-5,
    train_blocks_from=7,
    seed=2,
)
SELF_CRITICAL = StageOptions(
    name="self_critical",
    segments=3,
    photos_per_segment=5000,
    peak_lr=8e-5,
    dropout=0.0,
    warmup=50,
    # Rewards are counted against the captions as people wrote them, so nothing is mirrored here.
    batch=BatchOptions(
        captions_per_photo=1, answer_weight=6.0, min_crop=0.8, hide_names=0.0, drop_names=0.0, mirrored=0.0
    ),
    seed=3,
)
# The rewards of COCO have by then moved words away from Flickr8k's photos and from drawn pictures.
POLISH = replace(SELF_CRITICAL, name="polish", segments=4, photos_per_segment=4500, peak_lr=6e-5, seed=5)
INT2 = StageOptions(
    name="int2",
    segments=6,
    photos_per_segment=6000,
    peak_lr=1e-3,
    encoder_lr=1e-3,
    warmup=20,
    weight_decay=0.0,
    dropout=0.0,
    average_decay=0.995,
    # The teacher sees what the student sees, so little needs to be hidden from either.
    batch=BatchOptions(photos=24, captions_per_photo=1, min_crop=0.7, hide_names=0.05, drop_names=0.05),
    seed=7,
)
# From a trained 2-bit bundle: long, with a rate that does not throw away what is there.
INT2_ON = replace(
    INT2, name="int2_on", segments=6, photos_per_segment=5000, peak_lr=7e-4, encoder_lr=7e-4, seed=11
)
COCO_WEIGHTS = {"frozen": 3.0, "finetune": 3.0, "self_critical": 2.0, "polish": 1.6, "int2": 2.0}
DRAWN_WEIGHTS = {"frozen": 0.5, "finetune": 0.5, "self_critical": 0.5, "polish": 1.0, "int2": 1.0}
"""How often a drawn picture comes for a photo of Flickr8k: with 2,200 of them a twentieth to a tenth."""
