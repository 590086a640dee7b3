"""The parts of the recipe mean what they say: draws, mirrors, rates, averages, checkpoints, the encoder."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from mobile_multimodal.config import VisionConfig
from training.batches import draw
from training.checkpoint import load_checkpoint, save_checkpoint
from training.data import TrainingPhoto, caption_words, mirror
from training.import_encoder import find_encoder_weights, import_backbone
from training.optimization import AveragedWeights, cosine_lr
from training.pretrain import length_batches


def test_the_backbone_is_the_published_network() -> None:
    reference = pytest.importorskip("efficientnet_lite_pytorch")
    weights = find_encoder_weights("efficientnet_lite2")
    # Its paddings are fixed for one size of image when it is built.
    theirs = reference.EfficientNet.from_pretrained(
        "efficientnet-lite2", weights_path=str(weights), image_size=224
    ).eval()
    pixels = torch.randint(0, 256, (1, 224, 224, 3), dtype=torch.uint8)
    with torch.no_grad():
        ours = import_backbone(VisionConfig())(pixels).class_logits
        expected = theirs((pixels.permute(0, 3, 1, 2).float() - 127) / 128)
    assert (ours - expected).abs().max() < 1e-4


def test_photos_are_drawn_by_weight() -> None:
    photos = [TrainingPhoto(str(i), ("x",), (), 3.0 if i < 10 else 1.0) for i in range(40)]
    drawn = draw(photos, 600, random.Random(0))
    assert len(drawn) == 600
    heavy = sum(index < 10 for index in drawn)
    assert heavy == pytest.approx(300, abs=12)
    counts = np.bincount(drawn, minlength=40)
    assert set(counts[:10]) <= {29, 30, 31}
    assert set(counts[10:]) <= {9, 10, 11}


def test_a_mirrored_photo_has_mirrored_words() -> None:
    assert mirror("the dog on the left looks right, leftover") == "the dog on the right looks left, leftover"


def test_captions_are_learned_without_their_full_stop() -> None:
    assert caption_words("  A Dog   runs. ") == "a dog runs"


def test_length_batches_hold_everyone_once() -> None:
    lengths = [i % 17 for i in range(1000)]
    batches = length_batches(lengths, 32, random.Random(0))
    assert sorted(i for batch in batches for i in batch) == list(range(1000))
    assert np.mean([np.ptp([lengths[i] for i in batch]) for batch in batches]) < 2


def test_the_learning_rate_rises_then_falls() -> None:
    rates = [cosine_lr(step, 100, 1.0, 10) for step in range(100)]
    assert rates[9] == pytest.approx(1.0)
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 0.02


def test_averaged_weights_follow_the_weights() -> None:
    module = torch.nn.Linear(2, 2)
    average = AveragedWeights(module, 0.9)
    with torch.no_grad():
        module.weight.fill_(1.0)
    for _ in range(200):
        average.update(module)
    assert torch.allclose(average.state["weight"], torch.ones(2, 2), atol=1e-3)


def test_averaging_goes_on_from_a_checkpoint() -> None:
    """Resumed tensors stay where the module is, and are not those of the checkpoint."""
    average = AveragedWeights(torch.nn.Linear(2, 2), 0.9)
    kept = average.state["weight"]
    saved = {"weight": torch.ones(2, 2), "bias": torch.ones(2)}
    average.resume(saved, 7)
    assert average.state["weight"] is kept
    assert torch.equal(kept, saved["weight"])
    average.update(torch.nn.Linear(2, 2))
    assert average.steps == 8
    assert torch.equal(saved["weight"], torch.ones(2, 2))


def test_a_checkpoint_survives_a_failed_write(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    save_checkpoint(path, step=1)
    with pytest.raises(Exception, match="pickle"):
        save_checkpoint(path, step=lambda: None)
    assert load_checkpoint(path) == {"step": 1}
    assert load_checkpoint(tmp_path / "absent.pt") is None
