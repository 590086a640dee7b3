"""Small networks as graphs for Core ML, and what torch makes of the same inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from exporters.fixed_graphs import FixedGraph
from mobile_multimodal.manifest import GraphSpec
from mobile_multimodal.quantized_tensor import QuantizationScheme, QuantizedTensor
from mobile_multimodal.tensor_spec import TensorSpec

INT8 = QuantizationScheme(8)
INT4 = QuantizationScheme(4)
INT4_G32 = QuantizationScheme(4, "per_group", 32)
INT2 = QuantizationScheme(2)


class Named(nn.Module):
    """A layer from its one input to ``y``."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        return {"y": self.layer(*inputs.values())}


def graph_of(
    layer: nn.Module, shape: tuple[int, ...], dtype: str = "float32", given: str = "x"
) -> FixedGraph:
    """A layer as a graph from ``given`` of this shape to ``y``."""
    module = Named(layer).eval()
    x = torch.zeros(shape, dtype=getattr(torch, dtype))
    with torch.no_grad():
        y = module(**{given: x})["y"]
    letters = "abcdef"
    spec = GraphSpec(
        "only",
        (TensorSpec(given, shape, dtype, letters[: len(shape)]),),
        (TensorSpec("y", tuple(y.shape), "float32", letters[: y.dim()]),),
    )
    return FixedGraph(spec, module, {given: x})


def renamed(graph: FixedGraph, name: str) -> FixedGraph:
    """The same graph under another name."""
    return replace(graph, spec=replace(graph.spec, name=name))


def expected(graph: FixedGraph, inputs: Mapping[str, NDArray[np.generic]]) -> dict[str, NDArray[np.float32]]:
    """What the graph's own module says."""
    with torch.no_grad():
        outputs = graph.module(**{name: torch.from_numpy(x) for name, x in inputs.items()})
    return {name: y.numpy() for name, y in outputs.items()}


def quantized(shape: tuple[int, ...], scheme: QuantizationScheme, axis: int = 0) -> QuantizedTensor:
    """A random weight of this scheme; its scales fit float16, so that no layout of it loses anything."""
    rng = np.random.default_rng(0)
    columns = int(np.prod(shape)) // shape[axis]
    values = rng.integers(-scheme.largest, scheme.largest + 1, (shape[axis], columns)).astype(np.int8)
    scale = rng.uniform(0.1, 0.5, (shape[axis], scheme.groups(columns))) / scheme.largest
    return QuantizedTensor.of(values, scale.astype(np.float16), scheme, shape, axis)


def with_weight(layer: nn.Module, tensor: QuantizedTensor) -> nn.Module:
    """The layer with this weight, dequantized."""
    layer.weight = nn.Parameter(torch.from_numpy(tensor.dequantize()))
    return layer
