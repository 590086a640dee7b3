"""Inputs and outputs of each component's graph, from the sizes in the configuration."""

from __future__ import annotations

from mobile_multimodal.config import ModelConfig
from mobile_multimodal.tensor_spec import TensorSpec

__all__ = ["component_names", "component_specs"]

Specs = tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]


def component_names(config: ModelConfig) -> tuple[str, ...]:
    """The components that a model of this configuration has."""
    reader = () if config.ocr is None else ("text_detector", "text_recognizer")
    return ("vision_encoder", "text_decoder", *reader)


def component_specs(component: str, config: ModelConfig) -> Specs:
    """Inputs and outputs of a component, as :class:`mobile_multimodal.backends.Backend` describes them.

    Raises:
        KeyError: the model has no such component.
    """
    vision, text = config.vision, config.text
    image = (text.num_layers, "batch", text.num_heads, vision.num_cells, text.head_dim)
    past = (text.num_layers, "batch", text.num_heads, "cached", text.head_dim)
    new = (text.num_layers, "batch", text.num_heads, "steps", text.head_dim)
    if component == "vision_encoder":
        pixels = ("batch", vision.image_size, vision.image_size, 3)
        return (
            (TensorSpec("pixel_values", pixels, "uint8", "BHWC"),),
            (
                TensorSpec("image_key", image, "float32", "LBHMd"),
                TensorSpec("image_value", image, "float32", "LBHMd"),
                TensorSpec("class_logits", ("batch", vision.num_names), "float32", "BC"),
            ),
        )
    if component == "text_decoder":
        return (
            (
                TensorSpec("input_ids", ("batch", "steps"), "int64", "BS"),
                TensorSpec("position_ids", ("batch", "steps"), "int64", "BS"),
                TensorSpec("attention_mask", ("batch", 1, "steps", "cached_and_steps"), "float32", "B1ST"),
                TensorSpec("image_key", image, "float32", "LBHMd"),
                TensorSpec("image_value", image, "float32", "LBHMd"),
                TensorSpec("past_key", past, "float32", "LBHTd"),
                TensorSpec("past_value", past, "float32", "LBHTd"),
            ),
            (
                TensorSpec("logits", ("batch", "steps", text.vocab_size), "float32", "BSV"),
                TensorSpec("new_key", new, "float32", "LBHSd"),
                TensorSpec("new_value", new, "float32", "LBHSd"),
            ),
        )
    if component in component_names(config) and config.ocr is not None:
        if component == "text_detector":
            return (
                (TensorSpec("pixel_values", ("batch", "height", "width", 3), "uint8", "BHWC"),),
                (TensorSpec("probability", ("batch", "height", "width"), "float32", "BHW"),),
            )
        classes = len(config.ocr.characters) + 1
        return (
            (
                TensorSpec(
                    "pixel_values", ("batch", config.ocr.recognizer_height, "width", 3), "uint8", "BHWC"
                ),
            ),
            (TensorSpec("probability", ("batch", "columns", classes), "float32", "BTC"),),
        )
    raise KeyError(component)
