"""One small model that captions pictures, reads their text and answers questions about them.

Names are imported when first used, so that ``import mobile_multimodal`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mobile_multimodal.bundle import ModelBundle, load_bundle
    from mobile_multimodal.errors import MmllmError
    from mobile_multimodal.image import LoadedImage, load_image
    from mobile_multimodal.model import MobileMultiModalLLM
    from mobile_multimodal.results import GenerationConfig, TaskRequest, TaskResult, TextRegion

__all__ = [
    "GenerationConfig",
    "LoadedImage",
    "MmllmError",
    "MobileMultiModalLLM",
    "ModelBundle",
    "TaskRequest",
    "TaskResult",
    "TextRegion",
    "load_bundle",
    "load_image",
]

_HOMES = {
    "GenerationConfig": "results",
    "LoadedImage": "image",
    "MmllmError": "errors",
    "MobileMultiModalLLM": "model",
    "ModelBundle": "bundle",
    "TaskRequest": "results",
    "TaskResult": "results",
    "TextRegion": "results",
    "load_bundle": "bundle",
    "load_image": "image",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
