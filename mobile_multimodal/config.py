"""Frozen sizes of the networks and of what surrounds them; nothing here reads a file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Calibration", "ModelConfig", "OcrConfig", "TextConfig", "VisionConfig", "from_json", "to_json"]


@dataclass(frozen=True)
class VisionConfig:
    """The image encoder: an EfficientNet-Lite and the projector behind it.

    ``image_size`` is the side in pixels of the square input; the feature map has
    ``(image_size / 32) ** 2`` cells of ``feature_channels`` each. Pixels enter the graph as
    uint8 and are normalised inside as ``(x - pixel_mean) / pixel_std``.
    """

    architecture: str = "efficientnet_lite2"
    image_size: int = 224
    feature_channels: int = 1280
    num_classes: int = 1000
    num_words: int = 0
    pixel_mean: float = 127.0
    pixel_std: float = 128.0

    def __post_init__(self) -> None:
        if self.image_size < 32 or self.image_size % 32:
            raise ValueError(f"image_size {self.image_size} is not a multiple of 32")

    @property
    def num_names(self) -> int:
        """Everything the encoder has a name for: its classes, then its caption words."""
        return self.num_classes + self.num_words

    @property
    def num_cells(self) -> int:
        """Cells of the feature map: the number of vectors that the decoder attends to."""
        return (self.image_size // 32) ** 2


@dataclass(frozen=True)
class TextConfig:
    """The text decoder.

    The first ``num_name_slots`` positions hold what the encoder names, padded: its ``num_class_names``
    most likely classes (those of at least ``min_name_probability``), then its ``num_words`` most likely
    caption words (of at least ``min_word_probability``). The prompt starts behind them, so its
    positions do not depend on how long the names are.
    """

    vocab_size: int = 4096
    width: int = 256
    num_layers: int = 4
    num_heads: int = 8
    feed_forward_width: int = 1024
    max_positions: int = 128
    num_name_slots: int = 20
    num_class_names: int = 3
    min_name_probability: float = 0.1
    num_words: int = 12
    min_word_probability: float = 0.2

    def __post_init__(self) -> None:
        if self.width % 128 or self.feed_forward_width % 128:
            raise ValueError(f"widths {self.width}, {self.feed_forward_width} must be multiples of 128")
        if self.num_heads < 1 or self.width % self.num_heads:
            raise ValueError(f"width {self.width} is not a multiple of {self.num_heads} heads")
        if self.num_name_slots >= self.max_positions:
            raise ValueError(
                f"{self.num_name_slots} name slots leave none of {self.max_positions} positions for a prompt"
            )

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.width // self.num_heads


@dataclass(frozen=True)
class OcrConfig:
    """Text detection (differentiable binarization) and recognition (CTC).

    The detector sees the picture scaled so that its shorter side is at least
    ``detector_min_side`` and its longer side at most ``detector_max_side`` pixels, but never
    enlarged more than ``detector_max_enlargement`` times. A strip whose sides differ by more than
    ``detector_tile_aspect`` may stay ``detector_max_strip`` pixels long and is seen in tiles. The
    recognizer sees lines ``recognizer_height`` pixels high, batches of at most
    ``recognizer_batch_width`` pixels side by side, and lines longer than ``recognizer_max_width`` in
    pieces. A space whose probability reaches ``space_threshold`` between two characters is kept.
    ``characters`` lists the recognizer's classes behind the CTC blank, in order.
    """

    detector_min_side: int = 736
    detector_max_side: int = 1600
    detector_max_enlargement: float = 2.0
    detector_tile_aspect: float = 4.0
    detector_max_strip: int = 32768
    binarize_threshold: float = 0.3
    box_threshold: float = 0.5
    unclip_ratio: float = 1.6
    recognizer_height: int = 48
    recognizer_min_width: int = 128
    recognizer_max_width: int = 8192
    recognizer_batch_width: int = 1280
    space_threshold: float = 0.1
    min_confidence: float = 0.5
    characters: str = ""

    def __post_init__(self) -> None:
        for name in ("binarize_threshold", "box_threshold", "space_threshold", "min_confidence"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} {getattr(self, name)} is outside 0..1")


@dataclass(frozen=True)
class Calibration:
    """How a task's raw confidence becomes the chance that its result is right.

    sigmoid(``scale`` · logit(raw) + ``offset``) (Platt scaling; Guo et al., arXiv 1706.04599). Results below
    ``min_confidence`` are told as "not sure" unless the user sets a limit of their own.
    """

    scale: float = 1.0
    offset: float = 0.0
    min_confidence: float = 0.0

    def __post_init__(self) -> None:
        if not self.scale > 0.0:
            raise ValueError(f"scale {self.scale} would turn the order of confidences around")
        if not 0.0 <= self.min_confidence <= 1.0:
            raise ValueError(f"min_confidence {self.min_confidence} is outside 0..1")


@dataclass(frozen=True)
class ModelConfig:
    """All sizes of one model, as ``config.json`` holds them. ``ocr`` is None without text reading.

    ``calibration`` is by task; the raw confidence of a task without one is given as it is.
    """

    name: str = "mmllm-base"
    vision: VisionConfig = dataclasses.field(default_factory=VisionConfig)
    text: TextConfig = dataclasses.field(default_factory=TextConfig)
    ocr: OcrConfig | None = None
    calibration: Mapping[str, Calibration] = dataclasses.field(default_factory=dict)


def to_json(config: ModelConfig) -> dict[str, Any]:
    """A model configuration as plain JSON values."""
    return dataclasses.asdict(config)


def from_json(row: Mapping[str, Any]) -> ModelConfig:
    """Read back what :func:`to_json` wrote.

    Raises:
        ValueError: an unknown key, a missing part, or a size that the dataclass refuses.
    """
    try:
        fields = dict(row)
        ocr = fields.pop("ocr", None)
        calibration = fields.pop("calibration", {})
        return ModelConfig(
            vision=VisionConfig(**fields.pop("vision")),
            text=TextConfig(**fields.pop("text")),
            ocr=None if ocr is None else OcrConfig(**ocr),
            calibration={task: Calibration(**values) for task, values in calibration.items()},
            **fields,
        )
    except (TypeError, KeyError) as exc:
        raise ValueError(f"model configuration: {exc}") from exc
