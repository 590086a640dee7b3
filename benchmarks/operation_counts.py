"""Multiply-adds of a caption's two networks, from their sizes, and the weights that a decoder step reads."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mobile_multimodal.config import TextConfig, VisionConfig
from mobile_multimodal.model import MobileMultiModalLLM
from mobile_multimodal.tensor_spec import TensorSpec

__all__ = [
    "BACKBONES",
    "BlockSizes",
    "decoder_multiply_adds",
    "decoder_weights",
    "encoder_multiply_adds",
    "step_weight_bytes",
]


class BlockSizes(NamedTuple):
    """Blocks of one resolution: depthwise kernel side, stride of the first, expansion, channels."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


def _efficientnet_lite(repeats: tuple[int, ...], channels: tuple[int, ...]) -> tuple[BlockSizes, ...]:
    kernels, strides = (3, 3, 5, 3, 5, 5, 3), (1, 2, 2, 2, 1, 2, 1)
    expansions = (1, 6, 6, 6, 6, 6, 6)
    return tuple(map(BlockSizes, repeats, kernels, strides, expansions, channels))


# The networks hold the same numbers, but import torch; a test compares them.
BACKBONES: Mapping[str, tuple[BlockSizes, ...]] = {
    "efficientnet_lite0": _efficientnet_lite((1, 2, 2, 3, 3, 4, 1), (16, 24, 40, 80, 112, 192, 320)),
    "efficientnet_lite1": _efficientnet_lite((1, 3, 3, 4, 4, 5, 1), (16, 24, 40, 80, 112, 192, 320)),
    "efficientnet_lite2": _efficientnet_lite((1, 3, 3, 4, 4, 5, 1), (16, 24, 48, 88, 120, 208, 352)),
}
"""Architecture → its stages."""
STEM_CHANNELS = 32
FINE_STAGE = 4
"""Index of the stage whose map of stride 16 reaches the projector."""
COLOR_CELLS = 16
"""Mean colours in a cell of the image."""


def encoder_multiply_adds(vision: VisionConfig, text: TextConfig) -> int:
    """Multiply-adds of convolutions, linear layers and attention for one image.

    Raises:
        KeyError: an architecture that is not in ``BACKBONES``.
    """
    side = vision.image_size // 2
    inputs = STEM_CHANNELS
    total = side**2 * inputs * 3 * 3**2
    stages = BACKBONES[vision.architecture]
    for stage in stages:
        for repeat in range(stage.repeats):
            hidden = inputs * stage.expansion
            if stage.expansion > 1:
                total += side**2 * inputs * hidden
            side //= stage.stride if repeat == 0 else 1
            total += side**2 * hidden * (stage.kernel**2 + stage.channels)
            inputs = stage.channels
    cells, width = vision.num_cells, text.width
    total += cells * inputs * vision.feature_channels + vision.feature_channels * vision.num_names
    into_cell = vision.feature_channels + 4 * stages[FINE_STAGE].channels + 3 * COLOR_CELLS
    of_cell = width * into_cell + 4 * width**2 + 2 * width * 2 * width  # sum, qkv and out, feed-forward
    return total + cells * (of_cell + 2 * cells * width + 2 * text.num_layers * width**2)


def decoder_weights(text: TextConfig) -> int:
    """Weights that one step multiplies with: all but position embeddings, biases and norms."""
    layer = 6 * text.width**2 + 2 * text.width * text.feed_forward_width
    return text.num_layers * layer + text.width * text.vocab_size


def decoder_multiply_adds(text: TextConfig, cells: int, cached: int) -> int:
    """Multiply-adds of one token behind a cache of ``cached``, that looks at ``cells`` of an image."""
    attention = 2 * text.width * (cached + 1 + cells)
    return decoder_weights(text) + text.num_layers * attention


def step_weight_bytes(model: MobileMultiModalLLM) -> int | None:
    """Bytes of weights, as the runtime holds them, that one decoder step reads; None where it does not tell.

    ONNX Runtime lists the weights of every operator that it runs, after its own conversions: 8-bit
    weights that it expands at load count as the floats that they have become. Torch computes in float32.
    Embeddings, of which a step reads a row, do not count.
    """
    if model.backend.name == "torch":
        return 4 * decoder_weights(model.config.text)
    if model.backend.name != "onnxruntime":
        return None
    import onnxruntime

    from mobile_multimodal.backends.onnx_backend import session_options

    component = model.bundle.component("text_decoder")
    path, inputs = model.bundle.directory / component.weights, component.inputs
    if component.graphs:
        decode = next(graph for graph in component.graphs if graph.name == "decode")
        path, inputs = path / f"{decode.name}.onnx", decode.inputs
    with tempfile.TemporaryDirectory(prefix="mmllm-weights-") as folder:
        options = session_options(1)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "step")
        # Packed for a kernel, weights are no longer listed.
        options.add_session_config_entry("session.disable_prepacking", "1")
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        session.run(None, {spec.name: _zeros(spec) for spec in inputs})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    operators = [event["args"] for event in events if event["cat"] == "Node"]
    return sum(int(row["parameter_size"]) for row in operators if not row["op_name"].startswith("Gather"))


def _zeros(spec: TensorSpec) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    """An input of one token behind a cache of one."""
    sizes = {"cached_and_steps": 2}
    shape = tuple(size if isinstance(size, int) else sizes.get(size, 1) for size in spec.shape)
    return np.zeros(shape, dtype=spec.dtype)
