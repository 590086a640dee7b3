"""Models that many tests share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mobile_multimodal.bundle import ModelBundle
from mobile_multimodal.config import ModelConfig

if TYPE_CHECKING:
    from torch import nn


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    """A seeded tiny model as a bundle."""
    from tests.tiny import write_tiny_bundle

    return write_tiny_bundle(tmp_path_factory.mktemp("tiny") / "bundle")


@pytest.fixture(scope="session")
def tiny_artifacts(tiny_bundle: ModelBundle, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same model exported for ONNX Runtime, by recipe."""
    from onnx import ModelProto

    from exporters import onnx_exporter

    capture, captured = onnx_exporter.capture, dict[str, ModelProto]()

    def capture_once(component: str, module: nn.Module, config: ModelConfig) -> ModelProto:
        """Capturing is nearly all of an export's time, and the same for every recipe."""
        if component not in captured:
            captured[component] = capture(component, module, config)
        copy = ModelProto()
        copy.CopyFrom(captured[component])
        return copy

    root = tmp_path_factory.mktemp("artifacts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_exporter, "capture", capture_once)
        return {
            recipe: onnx_exporter.export_onnx(tiny_bundle, root / recipe, recipe=recipe).directory
            for recipe in onnx_exporter.RECIPES
        }
