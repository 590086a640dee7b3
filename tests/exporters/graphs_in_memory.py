"""Graphs of one node, and what ONNX Runtime makes of a graph in memory."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from mobile_multimodal.backends.onnx_backend import OnnxBackend
from mobile_multimodal.quantized_tensor import QuantizationScheme, QuantizedTensor


@dataclass(frozen=True)
class Place:
    """Where a weight stands in a graph: the operator that reads it, and how."""

    op: str
    shape: tuple[int, ...]
    data: list[int]
    axis: int = 0
    turned: bool = False
    attributes: dict[str, int] = field(default_factory=dict)


MATRICES = (
    Place("MatMul", (128, 256), [1, 256], turned=True),
    Place("MatMul", (384, 128), [2, 7, 128], turned=True),
)
OTHERS = (
    Place("MatMul", (48, 128), [2, 128], turned=True),
    Place("MatMul", (128, 192), [2, 192], turned=True),
    Place("Gemm", (128, 256), [2, 256], turned=True),
    Place("Gemm", (128, 256), [2, 256], attributes={"transB": 1}),
    Place("Conv", (128, 128, 1, 1), [1, 128, 9, 9]),
    Place("Conv", (24, 8, 3, 3), [1, 8, 9, 9]),
    Place("Conv", (48, 1, 3, 3), [1, 48, 9, 9], attributes={"group": 48}),
    Place("ConvTranspose", (8, 24, 2, 2), [1, 8, 9, 9], axis=1),
    Place("Gather", (128, 256), [5]),
)
PLACES = {"every": MATRICES + OTHERS, "matrix": MATRICES, "other": OTHERS}


def is_spoken_of(shape: tuple[int, ...], weights: str) -> bool:
    """Whether a row about weights of this kind speaks of one of this shape in a linear layer."""
    fits = len(shape) == 2 and all(size % 128 == 0 for size in shape)
    return weights == "every" or fits == (weights == "matrix")


def random_tensor(place: Place, scheme: QuantizationScheme) -> QuantizedTensor:
    rng = np.random.default_rng(1)
    channels = place.shape[place.axis]
    columns = math.prod(place.shape) // channels
    values = rng.integers(-scheme.largest, scheme.largest + 1, (channels, columns)).astype(np.int8)
    scale = rng.uniform(0.01, 0.1, (channels, scheme.groups(columns)))
    return QuantizedTensor.of(values, scale, scheme, place.shape, place.axis)


def float_model(place: Place, weight: np.ndarray, opset: int) -> onnx.ModelProto:
    """One node that reads the weight as its second input, Gather as its first."""
    looked_up = place.op == "Gather"
    data = TensorProto.INT64 if looked_up else TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node(place.op, ["w", "x"] if looked_up else ["x", "w"], ["y"], **place.attributes)],
        "g",
        [helper.make_tensor_value_info("x", data, place.data)],
        [
            helper.make_tensor_value_info(
                "y", TensorProto.FLOAT, [None] * (2 if looked_up else len(place.data))
            )
        ],
        [numpy_helper.from_array(np.ascontiguousarray(weight), "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=11)


def optimized_graphs(files: dict[str, Path], folder: Path) -> tuple[OnnxBackend, dict[str, onnx.ModelProto]]:
    """The backend, its sessions open, and the graphs as its session settings leave them in memory."""
    backend = OnnxBackend(files, 1)
    opened = onnxruntime.InferenceSession
    graphs = {}
    for name in files:
        kept = folder / f"{name}.optimized.onnx"

        def open_and_keep(path: Path, options: onnxruntime.SessionOptions, **more: object) -> object:
            options.optimized_model_filepath = str(kept)  # noqa: B023 - called in this very turn
            return opened(path, options, **more)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(onnxruntime, "InferenceSession", open_and_keep)
            backend.session(name)
        graphs[name] = onnx.load(kept)
    return backend, graphs
