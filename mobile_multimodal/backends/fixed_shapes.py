"""A backend whose graphs have fixed sizes: what is smaller is padded to the next, batches run one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mobile_multimodal.backends import Array, Backend
from mobile_multimodal.errors import BundleError
from mobile_multimodal.manifest import GraphSpec

__all__ = ["FixedShapeBackend", "Graphs", "RunGraph", "at_fixed_shapes"]

Graphs = Mapping[str, Sequence[GraphSpec]]
RunGraph = Callable[[str, str, Mapping[str, Array]], Mapping[str, Array]]
"""``(component, graph, inputs of its very shapes) → outputs``."""

PADDING = 127
"""Grey: zero after normalisation, as the reader was trained."""
MASKED = np.float32(-1e4)


class FixedShapeBackend:
    """Runs graphs of fixed sizes behind the :class:`~mobile_multimodal.backends.Backend` protocol.

    The graphs are those of :func:`mobile_multimodal.fixed_sizes.graph_specs`, from the smallest to the
    largest. Padded tokens are masked; padded pixels are grey, which the text reader sees, as it sees the grey
    behind the end of a line.
    """

    def __init__(self, name: str, graphs: Graphs, run: RunGraph) -> None:
        self.name = name
        self._graphs = graphs
        self._run = run

    @property
    def components(self) -> tuple[str, ...]:
        """The components that this backend can run."""
        return tuple(self._graphs)

    def run(self, component: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one component on every row of the batch.

        Raises:
            KeyError: the component is not part of this model.
            BundleError: inputs larger than the largest graph, or the runtime cannot run the file.
        """
        graphs = self._graphs[component]
        batch = len(inputs["input_ids" if component == "text_decoder" else "pixel_values"])
        rows = []
        for row in range(batch):
            single = {name: x.take([row], axis=_batch_axis(name)) for name, x in inputs.items()}
            if component == "text_decoder":
                rows.append(self._decode(graphs, single))
            else:
                rows.append(self._look(component, graphs, single["pixel_values"]))
        outputs = {name: [output[name] for output in rows] for name in rows[0]}
        return {name: np.concatenate(x, axis=_batch_axis(name)) for name, x in outputs.items()}

    def _look(self, component: str, graphs: Sequence[GraphSpec], pixels: Array) -> dict[str, Array]:
        """A picture or a line [1, H, W, 3] in the smallest graph that holds it."""
        height, width = pixels.shape[1:3]
        for graph in graphs:
            _, rows, columns, _ = _shape(graph, "pixel_values")
            if rows >= height and columns >= width:
                break
        else:
            raise BundleError(f"{component} has no graph for {height} × {width} pixels")
        if (rows, columns) != (height, width):
            padded = np.full((1, rows, columns, 3), PADDING, dtype=pixels.dtype)
            padded[:, :height, :width] = pixels
            pixels = padded
        outputs = self._run(component, graph.name, {"pixel_values": np.ascontiguousarray(pixels)})
        if component == "text_detector":
            return {"probability": outputs["probability"][:, :height, :width]}
        if component == "text_recognizer":
            per_column = columns // outputs["probability"].shape[1]
            return {"probability": outputs["probability"][:, : width // per_column]}
        return dict(outputs)

    def _decode(self, graphs: Sequence[GraphSpec], inputs: Mapping[str, Array]) -> dict[str, Array]:
        """New tokens [1, S], each of which sees none behind it.

        The first go through one graph as far as its size; the others follow behind its cache, one at a time.
        """
        steps, cached = inputs["input_ids"].shape[1], inputs["past_key"].shape[3]
        at_once = max((_shape(graph, "input_ids")[1] for graph in graphs if not _has_cache(graph)), default=1)
        parts: list[dict[str, Array]] = []
        done = 0
        while done < steps:
            stop = done + (1 if cached + done else min(steps, at_once))
            parts.append(self._decode_part(graphs, _tokens(inputs, parts, done, stop)))
            done = stop
        return {
            name: np.concatenate([part[name] for part in parts], axis=1 if name == "logits" else 3)
            for name in parts[0]
        }

    def _decode_part(self, graphs: Sequence[GraphSpec], inputs: Mapping[str, Array]) -> dict[str, Array]:
        """New tokens [1, S] in the smallest graph that holds them; a cache goes with one token alone."""
        steps, cached = inputs["input_ids"].shape[1], inputs["past_key"].shape[3]
        for graph in graphs:
            room = _shape(graph, "input_ids")[1]
            has_cache = _has_cache(graph)
            if room >= steps and has_cache == bool(cached):
                break
        else:
            raise BundleError(f"text_decoder has no graph for {steps} new tokens behind {cached}")
        cache = _shape(graph, "past_key")[3] if has_cache else 0
        if cached > cache:
            raise BundleError(f"text_decoder has no room for {cached} tokens in a cache of {cache}")
        mask = np.full((1, 1, room, cache + room), MASKED, dtype=np.float32)
        given = inputs["attention_mask"]
        mask[:, :, :steps, :cached] = given[..., :cached]
        mask[:, :, :steps, cache : cache + steps] = given[..., cached:]
        padded: dict[str, Array] = {"attention_mask": mask}
        for name in ("input_ids", "position_ids"):
            padded[name] = np.zeros((1, room), dtype=np.int32)
            padded[name][:, :steps] = inputs[name]
        for name in ("image_key", "image_value"):
            padded[name] = np.ascontiguousarray(inputs[name], dtype=np.float32)
        for name in _PAST if has_cache else ():
            past = np.zeros(_shape(graph, name), dtype=np.float32)
            past[:, :, :, :cached] = inputs[name]
            padded[name] = past
        outputs = self._run("text_decoder", graph.name, padded)
        return {name: x[:, :steps] if name == "logits" else x[:, :, :, :steps] for name, x in outputs.items()}


def _tokens(
    inputs: Mapping[str, Array], parts: Sequence[Mapping[str, Array]], start: int, stop: int
) -> dict[str, Array]:
    """Some of the new tokens, behind a cache that holds what the ``parts`` ahead of them gave."""
    cached = inputs["past_key"].shape[3]
    past = {
        name: np.concatenate([inputs[name], *(part[new] for part in parts)], axis=3)
        for name, new in zip(_PAST, ("new_key", "new_value"), strict=True)
    }
    return {
        **inputs,
        **past,
        "input_ids": inputs["input_ids"][:, start:stop],
        "position_ids": inputs["position_ids"][:, start:stop],
        "attention_mask": inputs["attention_mask"][:, :, start:stop, : cached + stop],
    }


def at_fixed_shapes(backend: Backend, graphs: Graphs) -> FixedShapeBackend:
    """A backend of sizes that vary, run at these fixed ones: the reference for one that cannot do else."""
    empty: dict[str, Array] = {}
    if decoder := graphs.get("text_decoder"):
        layers, batch, heads, _, width = _shape(decoder[0], "new_key")
        empty = {name: np.zeros((layers, batch, heads, 0, width), np.float32) for name in _PAST}

    def run(component: str, graph: str, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        if component != "text_decoder":
            return backend.run(component, inputs)
        return backend.run(
            component,
            {
                **empty,
                **{name: x.astype(np.int64) if name.endswith("_ids") else x for name, x in inputs.items()},
            },
        )

    return FixedShapeBackend(backend.name, graphs, run)


_PAST = ("past_key", "past_value")


def _has_cache(graph: GraphSpec) -> bool:
    return any(spec.name == "past_key" for spec in graph.inputs)


def _batch_axis(name: str) -> int:
    """Keys and values come by layer, [L, B, …]; everything else by row."""
    return 1 if name.endswith(("_key", "_value")) else 0


def _shape(graph: GraphSpec, name: str) -> tuple[int, ...]:
    spec = next(spec for spec in (*graph.inputs, *graph.outputs) if spec.name == name)
    return tuple(int(size) for size in spec.shape)
