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
def tiny_artifacts(tiny_bundle: ModelBundle, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same model exported for ONNX Runtime, by recipe."""
    from exporters.onnx_exporter import RECIPES, export_onnx

    root = tmp_path_factory.mktemp("artifacts")
    return {recipe: export_onnx(tiny_bundle, root / recipe, recipe=recipe).directory for recipe in RECIPES}
