"""A seeded tiny model, written as a bundle and exported, for tests that need no trained weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save

from mobile_multimodal.backends.torch_backend import build_module
from mobile_multimodal.bundle import ModelBundle, save_directory
from mobile_multimodal.component_specs import component_specs
from mobile_multimodal.config import ModelConfig, TextConfig, VisionConfig
from mobile_multimodal.manifest import Component
from mobile_multimodal.tokenizer import Tokenizer

TINY = ModelConfig(
    name="tiny",
    vision=VisionConfig(architecture="efficientnet_lite0", image_size=64, num_words=8),
    text=TextConfig(vocab_size=300, width=128, num_layers=2, num_heads=4, feed_forward_width=128),
)
CLASS_NAMES = tuple(f"thing {i}" for i in range(TINY.vision.num_names))


def tiny_tokenizer() -> Tokenizer:
    """A vocabulary learned from five sentences."""
    sentences = ["a dog runs", "a cat sits on the mat", "two dogs", "what color is the cat", "thing"]
    return Tokenizer.train(sentences, TINY.text.vocab_size)


def write_tiny_bundle(output: Path, *, seed: int = 0) -> ModelBundle:
    """A bundle of random weights; the decoder's are large enough that logits differ clearly."""
    torch.manual_seed(seed)
    contents: dict[str, Path | bytes] = {}
    components = []
    for name in ("vision_encoder", "text_decoder"):
        module = build_module(name, TINY)
        state = {
            key: (value * 3 if name == "text_decoder" and value.ndim > 1 else value).half().contiguous()
            for key, value in module.state_dict().items()
        }
        file = f"{name}.safetensors"
        contents[file] = save(state)
        parameters = sum(value.numel() for value in state.values())
        components.append(Component(name, *component_specs(name, TINY), file, parameters))
    return save_directory(
        output,
        contents,
        kind="bundle",
        target="torch",
        recipe="float16",
        config=TINY,
        tokenizer=tiny_tokenizer(),
        class_names=CLASS_NAMES,
        components=tuple(components),
        tool_versions={},
    )


def write_tiny_pictures(folder: Path, *, count: int = 32, seed: int = 0) -> tuple[Path, ...]:
    """Pictures of coloured patches, no two alike, to calibrate on."""
    rng = np.random.default_rng(seed)
    paths = tuple(folder / f"patches_{number:02}.png" for number in range(count))
    for path in paths:
        patches = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(patches).resize((72, 60), Image.Resampling.BILINEAR).save(path)
    return paths
