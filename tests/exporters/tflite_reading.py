"""What a TFLite file holds, read with the schema alone: whole numbers and scales of quantized constants."""

from __future__ import annotations

import io
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray
from torch import nn

OPERATOR_NAMES = {kind: name for name, kind in vars(schema.BuiltinOperator).items() if isinstance(kind, int)}
BITS = {schema.TensorType.INT8: 8, schema.TensorType.INT4: 4, schema.TensorType.INT2: 2}


@dataclass(frozen=True)
class Constant:
    """One quantized constant of the first graph: its shape, whole numbers in a row, and scales in a row."""

    bits: int
    shape: tuple[int, ...]
    values: NDArray[np.int8]
    scales: NDArray[np.float32]
    axis: int


def unpacked(content: bytes, bits: int, count: int) -> NDArray[np.int8]:
    """Two's complement values, the first in the lowest bits."""
    if bits == 8:
        return np.frombuffer(content, np.int8)
    raw = np.frombuffer(content, np.uint8)[:, None] >> (np.arange(8 // bits) * bits).astype(np.uint8)
    codes = (raw & (2**bits - 1)).astype(np.int16).ravel()[:count]
    return np.where(codes >= 2 ** (bits - 1), codes - 2**bits, codes).astype(np.int8)


def quantized_constants(path: Path) -> list[Constant]:
    """Those of the first graph."""
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    graph = model.subgraphs[0]
    found = []
    for tensor in graph.tensors:
        data = model.buffers[tensor.buffer].data
        if tensor.type not in BITS or data is None:
            continue
        shape = tuple(int(size) for size in tensor.shape)
        details = tensor.quantization.details
        if details is not None:
            scale = model.buffers[graph.tensors[details.scales].buffer].data
            scales = np.frombuffer(bytes(scale), np.float16).astype(np.float32)
        else:
            scales = np.asarray(tensor.quantization.scale, np.float32)
        bits = BITS[tensor.type]
        values = unpacked(bytes(data), bits, int(np.prod(shape)))
        found.append(Constant(bits, shape, values, scales, int(tensor.quantization.quantizedDimension)))
    return found


def halves(path: Path) -> list[NDArray[np.float16]]:
    """The constants that are stored in float16, each in a row."""
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    graph = model.subgraphs[0]
    kind = schema.TensorType.FLOAT16
    contents = [model.buffers[tensor.buffer].data for tensor in graph.tensors if tensor.type == kind]
    return [np.frombuffer(bytes(data), np.float16) for data in contents if data is not None]


def converted(module: nn.Module, x: torch.Tensor) -> bytes:
    """The converter's own float model of a module."""
    import litert_torch

    with (
        redirect_stdout(io.StringIO()),
        redirect_stderr(io.StringIO()),
        tempfile.TemporaryDirectory() as folder,
    ):
        litert_torch.convert(module.eval(), (x,)).export(f"{folder}/m.tflite")
        return Path(folder, "m.tflite").read_bytes()
