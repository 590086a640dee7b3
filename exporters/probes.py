"""Inputs of every size that an artifact has a graph for: three pictures reach but a few of the graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mobile_multimodal.backends import Array, Backend
from mobile_multimodal.backends.fixed_shapes import Graphs
from mobile_multimodal.backends.recording import Call
from mobile_multimodal.manifest import GraphSpec

__all__ = ["probe_graphs"]

MASKED = np.float32(-1e4)


def probe_graphs(reference: Backend, graphs: Graphs, calls: Sequence[Call]) -> Sequence[Call]:
    """One call of every graph at its full size, from what the ``calls`` gave to its component.

    Pictures and prompts are repeated to the size. A graph with a cache is left out: every caption runs it.
    """
    given = {component: inputs for component, inputs, _ in reversed(calls)}
    probes = []
    for component, several in graphs.items():
        for graph in several:
            if component in given and not any(spec.name == "past_key" for spec in graph.inputs):
                inputs = _filled(graph, given[component])
                probes.append((component, inputs, reference.run(component, inputs)))
    return probes


def _filled(graph: GraphSpec, given: Mapping[str, Array]) -> dict[str, Array]:
    shapes = {spec.name: tuple(int(size) for size in spec.shape) for spec in graph.inputs}
    if "pixel_values" in shapes:
        _, height, width, _ = shapes["pixel_values"]
        pixels = given["pixel_values"][:1]
        times = (1, -(-height // pixels.shape[1]), -(-width // pixels.shape[2]), 1)
        return {"pixel_values": np.ascontiguousarray(np.tile(pixels, times)[:, :height, :width])}
    steps = shapes["input_ids"][1]
    ids = np.resize(given["input_ids"][0], (1, steps))
    causal = np.tri(steps, dtype=np.bool_)
    return {
        **given,
        "input_ids": ids,
        "position_ids": np.arange(steps, dtype=ids.dtype)[None],
        "attention_mask": np.where(causal, np.float32(0), MASKED)[None, None],
    }
