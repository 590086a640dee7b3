"""Models that many tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from mobile_multimodal.bundle import ModelBundle


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    """A seeded tiny model as a bundle."""
    from tests.tiny import write_tiny_bundle

    return write_tiny_bundle(tmp_path_factory.mktemp("tiny") / "bundle")


@pytest.fixture(scope="session")
def tiny_pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """As few pictures as calibration asks for, alone in their folder."""
    from tests.tiny import write_tiny_pictures

    return write_tiny_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="session")
def tiny_artifacts(
    tiny_bundle: ModelBundle, tiny_pictures: tuple[Path, ...], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The same model exported for ONNX Runtime, by recipe."""
    from exporters.base import ExportOptions
    from exporters.export import export_artifact
    from quantization.quantize import quantize_bundle
    from quantization.recipe import load_recipe

    root = tmp_path_factory.mktemp("artifacts")
    artifacts = {
        "float32": export_artifact(
            tiny_bundle, "onnx", root / "float32", ExportOptions(float_bits=32)
        ).directory
    }
    for recipe in ("weight_only_wi8_afp32", "weight_only_wi4_g32_afp32"):
        output = root / f"{recipe}_bundle"
        quantized = quantize_bundle(tiny_bundle, load_recipe(recipe), output, pictures=tiny_pictures).bundle
        artifacts[recipe] = export_artifact(quantized, "onnx", root / recipe).directory
    return artifacts


@pytest.fixture(scope="session")
def tflite_artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The captioner of the packaged model, exported for TFLite without a proof."""
    from exporters.export import export_bundle
    from mobile_multimodal.bundle import MODELS, load_bundle

    bundle = load_bundle(MODELS / "mmllm-base" / "bundle")
    output = tmp_path_factory.mktemp("tflite") / "artifact"
    captioner = ("vision_encoder", "text_decoder")
    return export_bundle(bundle, "tflite", output, components=captioner, parity=False).bundle.directory
