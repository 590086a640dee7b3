"""Second stage: the encoder learns to name the words of captions, and each training photo gets its names.

A linear layer on the pooled ImageNet features, one logistic output a word. The names that a training photo
shows to the decoder come from a layer that has not seen the photo (two halves, each named by the layer of
the other), so that they are as often wrong as on new photos.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.content_words import content_words
from mobile_multimodal.config import ModelConfig, VisionConfig
from mobile_multimodal.errors import DataError
from mobile_multimodal.image import load_image
from mobile_multimodal.networks.vision_encoder import VisionBackbone
from mobile_multimodal.preprocessing import preprocess
from mobile_multimodal.prompts import choose_names
from training.checkpoint import RunLog, load_checkpoint, save_checkpoint
from training.data import TrainingImages
from training.import_encoder import import_backbone
from training.optimization import fast_arithmetic

__all__ = [
    "WordOptions",
    "fit_words",
    "load_words",
    "named_backbone",
    "pool_photos",
    "train_words",
    "word_targets",
]


@dataclass(frozen=True)
class WordOptions:
    """How the layer learns; a photo with fewer than ``few_texts`` texts counts ``few_texts_weight``.

    Where one sentence describes a photo, most words that would fit it are missing from its targets.
    """

    epochs: int = 8
    batch_size: int = 256
    peak_lr: float = 1.5e-3
    weight_decay: float = 0.02
    dropout: float = 0.3
    few_texts: int = 3
    few_texts_weight: float = 0.3
    seed: int = 0


def word_targets(texts: Sequence[Sequence[str]], vocabulary: Sequence[str]) -> Tensor:
    """How surely each word belongs to a photo: 1 where half of its texts have it → [photos, words]."""
    column = {word: index for index, word in enumerate(vocabulary)}
    targets = torch.zeros(len(texts), len(vocabulary))
    for row, sentences in enumerate(texts):
        for sentence in sentences:
            for word in content_words(sentence):
                if word in column:
                    targets[row, column[word]] += 2 / len(sentences)
    return targets.clamp(max=1.0)


def fit_words(pooled: Tensor, targets: Tensor, weights: Tensor, options: WordOptions) -> nn.Linear:
    """Logistic regression of ``targets`` [N, words] on ``pooled`` [N, C]; ``weights`` [N]."""
    generator = torch.Generator().manual_seed(options.seed)
    layer = nn.Linear(pooled.shape[1], targets.shape[1])
    nn.init.zeros_(layer.weight)
    with torch.no_grad():
        layer.bias.copy_(torch.logit(targets.mean(dim=0).clamp(1e-4, 0.99)))
    optimizer = torch.optim.AdamW(layer.parameters(), options.peak_lr, weight_decay=options.weight_decay)
    for epoch in range(options.epochs):
        for group in optimizer.param_groups:
            group["lr"] = options.peak_lr * (1 - epoch / options.epochs)
        for rows in torch.randperm(len(pooled), generator=generator).split(options.batch_size):
            kept = torch.rand(pooled[rows].shape, generator=generator) >= options.dropout
            logits = layer(pooled[rows] * kept / (1 - options.dropout))
            losses = functional.binary_cross_entropy_with_logits(logits, targets[rows], reduction="none")
            loss = (losses.sum(dim=1) * weights[rows]).mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    return layer


@torch.no_grad()
def pool_photos(
    backbone: VisionBackbone, names: Sequence[str], images: TrainingImages, device: str
) -> tuple[Tensor, Tensor]:
    """Pooled features [N, C] and class logits [N, classes] of whole photos."""
    side = backbone.config.image_size
    backbone = backbone.to(device)

    def load(name: str) -> np.ndarray:
        return preprocess(load_image(images.read(name), source=name).pixels, side)

    pooled, logits = [], []
    with ThreadPoolExecutor(max_workers=2) as pool:
        for start in range(0, len(names), 64):
            pixels = torch.from_numpy(np.stack(list(pool.map(load, names[start : start + 64]))))
            with fast_arithmetic(device):
                seen = backbone(pixels.to(device))
            pooled.append(seen.features.float().mean(dim=1).cpu())
            logits.append(seen.class_logits.float().cpu())
    return torch.cat(pooled), torch.cat(logits)


def train_words(
    texts: Mapping[str, Sequence[str]],
    vocabulary: Sequence[str],
    images: TrainingImages,
    run: Path,
    config: ModelConfig,
    options: WordOptions,
    device: str,
) -> Path:
    """Fit the layer on what is said of each photo; ``words.pt`` holds it and the names of every photo."""
    path = run / "words.pt"
    if path.exists():
        return path
    photos = sorted(texts)
    pooled, classes = pool_photos(
        import_backbone(replace(config.vision, num_words=0)), photos, images, device
    )
    targets = word_targets([texts[name] for name in photos], vocabulary)
    few = torch.tensor([len(texts[name]) < options.few_texts for name in photos])
    weights = torch.where(few, options.few_texts_weight, 1.0)
    half = torch.randperm(len(photos), generator=torch.Generator().manual_seed(options.seed)) % 2
    unseen = torch.zeros_like(targets)
    for part in (0, 1):
        learned, named = half != part, half == part
        layer = fit_words(pooled[learned], targets[learned], weights[learned], options)
        with torch.no_grad():
            unseen[named] = layer(pooled[named])
    whole = fit_words(pooled, targets, weights, options)
    described = ~few
    top = unseen[described].topk(5, dim=1).indices
    found = targets[described].gather(1, top).gt(0).float().mean().item()
    RunLog(run / "log.jsonl").write("words", photos=len(photos), words=len(vocabulary), precision_at_5=found)
    names = choose_names(torch.cat((classes, unseen), dim=1).numpy(), config.vision, config.text)
    save_checkpoint(
        path,
        weight=whole.weight.detach(),
        bias=whole.bias.detach(),
        photos=photos,
        names=names,
    )
    return path


def load_words(run: Path) -> tuple[dict[str, Tensor], dict[str, list[int]]]:
    """The layer's state, and the names of each training photo.

    Raises:
        DataError: the stage was not run.
    """
    state = load_checkpoint(run / "words.pt")
    if state is None:
        raise DataError(
            f"{run / 'words.pt'} is missing", remedy="run the stages in order: python -m training all"
        )
    layer = {"words.weight": state["weight"], "words.bias": state["bias"]}
    return layer, dict(zip(state["photos"], state["names"], strict=True))


def named_backbone(config: VisionConfig, layer: Mapping[str, Tensor]) -> VisionBackbone:
    """The ImageNet backbone with the word layer beside its classifier."""
    backbone = VisionBackbone(config)
    backbone.load_state_dict({**import_backbone(replace(config, num_words=0)).state_dict(), **layer})
    return backbone.eval()
