"""An exported file as operators in the order in which they run, whatever its format."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mobile_multimodal.errors import BundleError, UsageError

__all__ = ["FORMATS", "Graph", "Operator", "Tensor", "mark_constants", "read_graphs", "runtime_of"]

FORMATS = {".onnx": "onnxruntime", ".tflite": "litert", ".mlpackage": "coreml"}
"""The runtime that each suffix belongs to."""


@dataclass(frozen=True)
class Tensor:
    """What an operator reads or writes.

    ``shape`` holds a name, or ``?``, for each size that varies, and is None where the file does not say.
    ``dtype`` is a NumPy name, ``unknown`` where the file does not say. A ``constant`` comes from the file
    and is the same in every inference; ``stored`` is the dtype in which the file holds it.
    """

    name: str
    shape: tuple[int | str, ...] | None
    dtype: str
    constant: bool = False
    stored: str | None = None

    @property
    def sizes_vary(self) -> bool:
        """Whether a size is not a number, or the shape is not known."""
        return self.shape is None or any(isinstance(size, str) for size in self.shape)

    @property
    def bytes(self) -> int:
        """Size in memory; sizes that vary count as 1, an unknown shape as one number."""
        sizes = [size for size in self.shape or () if isinstance(size, int)]
        return math.ceil(math.prod(sizes) * _bits(self.dtype) / 8)


@dataclass(frozen=True)
class Operator:
    """One step of a graph.

    ``op`` is the type as the format spells it, an ONNX domain in front (``com.microsoft:MatMulNBits``);
    ``version`` that of the operator's definition. An optional input that is not given is None.
    """

    name: str
    op: str
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    version: int = 1

    @property
    def activations(self) -> tuple[Tensor, ...]:
        """The inputs that are computed in every inference."""
        return tuple(tensor for tensor in self.inputs if tensor is not None and not tensor.constant)

    @property
    def folded(self) -> bool:
        """Whether it works on constants alone, and so has the same result in every inference."""
        return all(tensor.constant for tensor in self.outputs)

    @property
    def weights(self) -> str | None:
        """The dtype in which the file holds the largest constant that is read; None where there is none."""
        stored = [tensor for tensor in self.inputs if tensor is not None and tensor.stored is not None]
        return max(stored, key=lambda tensor: tensor.bytes).stored if stored else None


@dataclass(frozen=True)
class Graph:
    """One graph of a file: operators in execution order, and the names of what goes in and comes out."""

    name: str
    operators: tuple[Operator, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def runtime_of(path: Path) -> str:
    """The runtime that a file is for, by its suffix.

    Raises:
        UsageError: another suffix.
    """
    if path.suffix not in FORMATS:
        raise UsageError(f"{path} is no exported graph", remedy=f"one of {', '.join(FORMATS)}")
    return FORMATS[path.suffix]


def read_graphs(path: Path) -> tuple[Graph, ...]:
    """The graphs of an ``.onnx`` or ``.tflite`` file or an ``.mlpackage`` directory.

    Raises:
        UsageError: another suffix.
        BundleError: a file that cannot be read, or not understood.
        MissingExtraError: the package that reads the format is not installed.
    """
    runtime = runtime_of(path)
    if runtime == "onnxruntime":
        from exporters.placement.onnx_graph import parse_onnx

        return parse_onnx(_content(path), path)
    if runtime == "litert":
        from exporters.placement.tflite_graphs import parse_tflite

        return parse_tflite(_content(path), path)
    from exporters.placement.coreml_graph import parse_coreml

    return parse_coreml(_content(_model_of(path)), path)


def mark_constants(operators: Iterable[Operator], constants: Mapping[str, str]) -> tuple[Operator, ...]:
    """Mark what never changes: the constants of the file, and what is computed from constants alone.

    ``constants`` maps names to stored dtypes. What is computed from several constants counts as stored as
    the largest of them, so that weights that are unpacked in the graph keep the dtype of the file.
    """
    known = dict(constants)
    marked: list[Operator] = []

    def mark(tensor: Tensor) -> Tensor:
        return replace(tensor, constant=True, stored=known[tensor.name]) if tensor.name in known else tensor

    for operator in operators:
        inputs = tuple(None if tensor is None else mark(tensor) for tensor in operator.inputs)
        step = replace(operator, inputs=inputs)
        given = [tensor for tensor in inputs if tensor is not None]
        if given and not step.activations:
            known.update({tensor.name: step.weights or tensor.dtype for tensor in operator.outputs})
        marked.append(replace(step, outputs=tuple(mark(tensor) for tensor in operator.outputs)))
    return tuple(marked)


def _bits(dtype: str) -> int:
    if dtype == "bool":
        return 8
    digits = re.search(r"\d+", dtype)
    return int(digits[0]) if digits else 0


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise BundleError(f"{path} cannot be read: {exc.strerror}") from exc


def _model_of(package: Path) -> Path:
    """The file in an ``.mlpackage`` that holds the program, as its Manifest.json says."""
    content = _content(package / "Manifest.json")
    try:
        manifest = json.loads(content)
        place = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"]
        return package / "Data" / str(place)
    except (ValueError, KeyError, TypeError) as exc:
        raise BundleError(f"{package / 'Manifest.json'} is no manifest of a model package: {exc!r}") from exc
