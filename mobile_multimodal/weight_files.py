"""The weights of one component as a safetensors file, which alone says how each tensor is stored.

A quantized tensor ``name`` is stored as ``name.packed`` and ``name.scale``; the file's metadata lists under
``quantized`` its bits, granularity, group size, shape and axis, and under ``input_grid`` the scale and zero
point of its layer's inputs, where these are rounded too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mobile_multimodal.errors import BundleError, MissingExtraError
from mobile_multimodal.quantized_tensor import InputGrid, QuantizationScheme, QuantizedTensor

try:
    from safetensors import SafetensorError, safe_open
    from safetensors.numpy import save
except ImportError as exc:
    raise MissingExtraError("safetensors", "export") from exc

__all__ = ["StoredTensor", "read_weights", "write_weights"]

StoredTensor = NDArray[Any] | QuantizedTensor
METADATA = "quantized"


def write_weights(tensors: Mapping[str, StoredTensor]) -> bytes:
    """The file's content; equal tensors give equal bytes."""
    plain: dict[str, NDArray[Any]] = {}
    schemes: dict[str, dict[str, Any]] = {}
    for name, tensor in sorted(tensors.items()):
        if isinstance(tensor, QuantizedTensor):
            plain[f"{name}.packed"], plain[f"{name}.scale"] = tensor.packed, tensor.scale
            schemes[name] = {**vars(tensor.scheme), "shape": list(tensor.shape), "axis": tensor.axis}
            if tensor.input_grid is not None:
                schemes[name]["input_grid"] = vars(tensor.input_grid)
        else:
            plain[name] = np.ascontiguousarray(tensor)
    metadata = {METADATA: json.dumps(schemes, sort_keys=True)} if schemes else None
    return bytes(save(plain, metadata=metadata))


def read_weights(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a component, as stored.

    Raises:
        BundleError: the file cannot be read, or its tensors do not fit what it says of them.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            plain: dict[str, NDArray[Any]] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
        tensors: dict[str, StoredTensor] = {}
        for name, row in json.loads(metadata.get(METADATA, "{}")).items():
            fields = dict(row)
            shape, axis = tuple(fields.pop("shape")), fields.pop("axis")
            packed, scale = plain.pop(f"{name}.packed"), plain.pop(f"{name}.scale")
            inputs = fields.pop("input_grid", None)
            grid = None if inputs is None else InputGrid(**inputs)
            tensors[name] = QuantizedTensor(packed, scale, QuantizationScheme(**fields), shape, axis, grid)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise BundleError(f"{path} cannot be read: {exc}") from exc
    return {**plain, **tensors}
