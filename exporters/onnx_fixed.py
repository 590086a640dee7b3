"""ONNX graphs of fixed sizes, for processors that take no others: a folder a component, its weights once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import onnx
from onnx import ModelProto, TensorProto
from onnx.external_data_helper import set_external_data

__all__ = ["WEIGHTS", "write_fixed"]

WEIGHTS = "weights.bin"
SMALLEST_SHARED = 1024
"""Bytes below which a constant stays in its graph; shapes and axes must."""
ALIGNMENT = 64
"""Where constants begin: a cache line. Whole pages, which ONNX advises, waste bytes on small constants."""


def write_fixed(
    names: Sequence[str], models: Sequence[ModelProto], folder: Path, check: Callable[[Path], None]
) -> None:
    """Write ``NAME.onnx`` for each graph, and the constants of all of them once, as external data.

    ``check`` is called with the path of each graph when everything is in place.
    """
    folder.mkdir()
    places: dict[str, tuple[int, int]] = {}
    with (folder / WEIGHTS).open("wb") as stream:
        for model in models:
            for constant in model.graph.initializer:
                _share(constant, places, stream.tell, stream.write)
    for name, model in zip(names, models, strict=True):
        onnx.save_model(model, folder / f"{name}.onnx")
    for name in names:
        check(folder / f"{name}.onnx")


def _share(
    constant: TensorProto,
    places: dict[str, tuple[int, int]],
    tell: Callable[[], int],
    write: Callable[[bytes], int],
) -> None:
    """Move what a constant holds into the shared file, where it may stand already."""
    content = constant.raw_data
    if len(content) < SMALLEST_SHARED:
        return
    mark = hashlib.sha256(content).hexdigest()
    if mark not in places:
        write(b"\0" * (-tell() % ALIGNMENT))
        places[mark] = tell(), len(content)
        write(content)
    offset, length = places[mark]
    set_external_data(constant, WEIGHTS, offset, length)
    constant.ClearField("raw_data")
