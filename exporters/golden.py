"""Golden vectors: pictures with what every component makes of them, for an app to check its pipeline by.

``golden/golden.json`` lists for each picture its caption's tokens and the tensors of one run, as ``.npy``
files (a header of one line, then the numbers in order).
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mobile_multimodal.backends import Array, Backend
from mobile_multimodal.backends.fixed_shapes import Graphs
from mobile_multimodal.backends.recording import Call, Recorder
from mobile_multimodal.image import LoadedImage
from mobile_multimodal.manifest import GraphSpec
from mobile_multimodal.results import GenerationConfig, TaskRequest
from mobile_multimodal.tasks import Runtime, run_tasks

__all__ = ["GOLDEN_PICTURES", "golden_files"]

GOLDEN_PICTURES = 3
INDEX = "golden/golden.json"


def golden_files(
    runtime: Runtime, pictures: Sequence[LoadedImage], sized: Callable[[Backend], Backend], graphs: Graphs
) -> tuple[dict[str, bytes], Sequence[Call]]:
    """The files of the ``golden`` folder, and the calls of components that they come from.

    Of each picture: its pixels, the first run of each component as the artifact's graphs have it, and the
    caption. The last picture is read too. ``runtime`` is the reference; ``sized`` puts its backend behind the
    sizes of the artifact, whose ``graphs`` they are; none where sizes vary.
    """
    files: dict[str, bytes] = {}
    rows = []
    calls: list[Call] = []
    for number, picture in enumerate(pictures):
        padded = Recorder(runtime.backend)
        components = Recorder(sized(padded))
        recorded = Runtime(runtime.config, runtime.tokenizer, components, runtime.name_tokens)
        reads = runtime.config.ocr is not None and number == len(pictures) - 1
        requests = [TaskRequest("caption"), *([TaskRequest("ocr")] if reads else [])]
        results = run_tasks(recorded, [picture], requests, GenerationConfig())[0]
        name = f"picture_{number + 1}"
        files[f"golden/{name}.npy"] = _npy(picture.pixels)
        tensors: dict[str, Mapping[str, Any]] = {}
        for component, inputs, outputs in padded.calls:
            if component in tensors:
                continue
            given = {tensor: x for tensor, x in inputs.items() if x.size}  # a prompt has no cache yet
            graph = _graph_of(graphs.get(component, ()), given)
            if graph is not None:
                given = {spec.name: given[spec.name].astype(spec.dtype) for spec in graph.inputs}
            tensors[component] = {
                "graph": None if graph is None else graph.name,
                "inputs": _write(files, f"{name}.{component}.inputs", given),
                "outputs": _write(files, f"{name}.{component}.outputs", outputs),
            }
        rows.append(
            {
                "picture": f"{name}.npy",
                "caption": results[0].text,
                "token_ids": list(results[0].token_ids),
                "lines": [region.text for region in results[-1].regions or ()] if reads else None,
                "components": tensors,
            }
        )
        calls += components.calls
    document = {
        "pictures": rows,
        "layout": "uint8 RGB, height x width x 3; tensors as artifact.json names them",
    }
    files[INDEX] = (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()
    return files, calls


def _graph_of(graphs: Sequence[GraphSpec], inputs: Mapping[str, Array]) -> GraphSpec | None:
    """The graph of fixed sizes that takes inputs of these shapes."""
    shapes = {name: x.shape for name, x in inputs.items()}
    return next((g for g in graphs if {spec.name: spec.shape for spec in g.inputs} == shapes), None)


def _write(files: dict[str, bytes], name: str, tensors: Mapping[str, Array]) -> Mapping[str, str]:
    """Tensors by name → their files, added to ``files``; what the encoder gave is not written twice."""
    written = {}
    for tensor, values in tensors.items():
        if tensor in ("image_key", "image_value") and name.endswith("text_decoder.inputs"):
            written[tensor] = f"{name.replace('text_decoder.inputs', 'vision_encoder.outputs')}.{tensor}.npy"
            continue
        file = f"{name}.{tensor}.npy"
        files[f"golden/{file}"] = _npy(values)
        written[tensor] = file
    return written


def _npy(values: Array) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(values), allow_pickle=False)
    return stream.getvalue()
