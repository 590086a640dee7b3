"""What every exporter is given and gives back: options, one component in, one file (or package) out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mobile_multimodal.bundle import ModelBundle
from mobile_multimodal.config import ModelConfig
from mobile_multimodal.errors import MissingExtraError
from mobile_multimodal.fixed_sizes import FixedSizes
from mobile_multimodal.manifest import Component

try:
    from torch import nn
except ImportError as exc:
    raise MissingExtraError("torch", "export") from exc

__all__ = ["Convert", "ExportOptions", "Source"]


@dataclass(frozen=True)
class ExportOptions:
    """What may be chosen about an export; a target ignores what is not its own.

    ``float_bits``: how float weights are stored, 16 (as the bundle has them) or 32; for Core ML also how
    they are computed with. ``static``: ONNX graphs of fixed sizes, which other
    targets always have. ``ort``: ONNX graphs in ONNX Runtime's own format. ``opset``: of ONNX, None for the
    least that does. ``sizes``: of graphs for runtimes that hold none that vary. ``deployment_target`` and
    ``image_input``: Core ML's.

    Raises:
        ValueError: other float bits, or graphs of fixed sizes in ONNX Runtime's format, where each would
            hold all weights.
    """

    float_bits: int = 16
    static: bool = False
    ort: bool = False
    opset: int | None = None
    sizes: FixedSizes = field(default_factory=FixedSizes)
    deployment_target: str = "iOS18"
    image_input: bool = False

    def __post_init__(self) -> None:
        if self.float_bits not in (16, 32):
            raise ValueError(f"float bits {self.float_bits} are neither 16 nor 32")
        if self.static and self.ort:
            raise ValueError("graphs of fixed sizes share weights, which ONNX Runtime's own format cannot")


@dataclass(frozen=True)
class Source:
    """The component that is exported: its network with the bundle's weights, dequantized.

    ``config`` holds the settings of the artifact, which for fixed sizes are not quite the bundle's.
    """

    bundle: ModelBundle
    component: str
    network: nn.Module
    config: ModelConfig


Convert = Callable[[Source, ExportOptions, Path], Component]
"""Writes one component below a folder; the result's ``weights`` is the name of what was written."""
