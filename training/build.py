"""Last stage: the chosen checkpoint and the text reader → the bundle and the artifact that ship."""

from __future__ import annotations

import importlib.metadata
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from exporters.base import ExportOptions
from exporters.export import export_artifact
from mobile_multimodal.bundle import ModelBundle, check_output, load_bundle, save_directory
from mobile_multimodal.component_specs import component_specs
from mobile_multimodal.config import ModelConfig, OcrConfig
from mobile_multimodal.errors import DataError
from mobile_multimodal.manifest import Component
from mobile_multimodal.tokenizer import Tokenizer
from quantization.quantize import quantize_bundle
from quantization.recipe import load_recipe
from training.checkpoint import load_checkpoint
from training.import_ocr import load_ocr_weights

__all__ = ["add_reader", "build_artifact", "build_bundle", "caption_states"]


def caption_states(checkpoint: Path) -> dict[str, dict[str, Tensor]]:
    """The weights of encoder and decoder out of a training checkpoint.

    Raises:
        DataError: there is no such checkpoint.
    """
    state = load_checkpoint(checkpoint)
    if state is None:
        raise DataError(f"{checkpoint} is missing", remedy="run the stages in order: python -m training all")
    model: dict[str, Tensor] = state["model"]
    return {
        component: {
            name.removeprefix(prefix): tensor for name, tensor in model.items() if name.startswith(prefix)
        }
        for component, prefix in (("vision_encoder", "encoder."), ("text_decoder", "decoder."))
    }


def _half(name: str, tensor: Tensor) -> Tensor:
    half = tensor.to(torch.float16).contiguous()
    if not half.isfinite().all():
        raise DataError(f"{name} holds numbers that are not finite in float16")
    return half


def build_bundle(
    checkpoint: Path,
    tokenizer: Tokenizer,
    config: ModelConfig,
    class_names: Sequence[str],
    reader: Mapping[str, Mapping[str, Tensor]],
    output: Path,
    *,
    card: Path | None,
    force: bool,
) -> ModelBundle:
    """Write the bundle: float16 weights, one file a component.

    ``reader`` holds the text reader's components, none where ``config.ocr`` is None.

    Raises:
        DataError: the checkpoint is missing, or holds numbers that float16 cannot.
        UsageError: the output exists and ``force`` is not given.
    """
    check_output(output, force=force)
    states: dict[str, Mapping[str, Tensor]] = {**caption_states(checkpoint), **reader}
    contents: dict[str, Path | bytes] = {} if card is None else {"README.md": card}
    components = []
    for name, state in states.items():
        inputs, outputs = component_specs(name, config)
        file = f"{name}.safetensors"
        # Half precision costs no answer (measured) and half the size; the runtime computes in float32.
        contents[file] = save({key: _half(f"{name}.{key}", tensor) for key, tensor in state.items()})
        parameters = sum(tensor.numel() for tensor in state.values())
        components.append(Component(name, inputs, outputs, file, parameters))
    return save_directory(
        output,
        contents,
        kind="bundle",
        target="torch",
        recipe="float16",
        config=config,
        tokenizer=tokenizer,
        class_names=tuple(class_names),
        components=tuple(components),
        tool_versions={"torch": importlib.metadata.version("torch")},
        force=force,
    )


def add_reader(config: ModelConfig) -> tuple[ModelConfig, dict[str, Mapping[str, Tensor]]]:
    """The configuration with the imported text reader, and its components.

    Raises:
        MissingExtraError: rapidocr, which carries the text reader's weights, is not installed.
    """
    reader = load_ocr_weights()
    components: dict[str, Mapping[str, Tensor]] = {
        "text_detector": reader.detector,
        "text_recognizer": reader.recognizer,
    }
    return replace(config, ocr=OcrConfig(characters=reader.characters)), components


def build_artifact(bundle: Path, output: Path, *, recipe: str, force: bool) -> ModelBundle:
    """Write the ONNX artifact of a bundle, quantized first unless ``recipe`` is ``float32``.

    ``weight_only_wi8_afp32`` is the one that ships.
    """
    source = load_bundle(bundle)
    if recipe == "float32":
        return export_artifact(source, "onnx", output, ExportOptions(float_bits=32), force=force)
    check_output(output, force=force)
    with tempfile.TemporaryDirectory() as scratch:
        quantized = quantize_bundle(source, load_recipe(recipe), Path(scratch) / "quantized").bundle
        return export_artifact(quantized, "onnx", output, force=force)
