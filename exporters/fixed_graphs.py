"""A component as graphs of fixed sizes: what converters without sizes that vary are given."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from mobile_multimodal.errors import MissingExtraError
from mobile_multimodal.manifest import GraphSpec
from mobile_multimodal.tensor_spec import TensorSpec

try:
    import torch
    from torch import Tensor, nn
except ImportError as exc:
    raise MissingExtraError("torch", "export") from exc

__all__ = ["FixedGraph", "Lowering", "fixed_graphs"]

Lowering = Callable[[], AbstractContextManager[Any]]
"""What a converter's graphs are traced in, so that torch takes other steps to the same numbers."""


class _Named(nn.Module):
    """A network whose inputs and outputs go by name; a graph without a cache passes none."""

    def __init__(self, network: nn.Module, spec: GraphSpec, lowering: Lowering) -> None:
        super().__init__()
        self.network, self.lowering = network, lowering
        self.output_names = tuple(output.name for output in spec.outputs)
        names = {given.name for given in spec.inputs}
        without_cache = "input_ids" in names and "past_key" not in names
        self.absent = dict.fromkeys(("past_key", "past_value")) if without_cache else {}

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        """Tensors by the names of the spec's inputs → tensors by those of its outputs."""
        with self.lowering():
            outputs = self.network(**inputs, **self.absent)
        tensors = (outputs,) if isinstance(outputs, Tensor) else outputs
        return dict(zip(self.output_names, tensors, strict=True))


@dataclass(frozen=True)
class FixedGraph:
    """One graph to convert: its spec, a module that takes and gives tensors by name, and sample inputs."""

    spec: GraphSpec
    module: nn.Module
    inputs: Mapping[str, Tensor]


def fixed_graphs(
    network: nn.Module, specs: Sequence[GraphSpec], *, lowering: Lowering = contextlib.nullcontext
) -> tuple[FixedGraph, ...]:
    """The graphs of one component; all hold the same network, and run in the context of ``lowering``.

    Weights are made contiguous in place: litert-torch converts others wrongly, at random and silently.
    """
    for parameter in network.parameters():
        parameter.data = parameter.data.contiguous()
    return tuple(
        FixedGraph(
            spec,
            _Named(network, spec, lowering).eval(),
            {given.name: _zeros(given) for given in spec.inputs},
        )
        for spec in specs
    )


def _zeros(spec: TensorSpec) -> Tensor:
    return torch.zeros([int(size) for size in spec.shape], dtype=getattr(torch, spec.dtype))
