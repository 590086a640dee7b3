"""Core ML packages as a backend: Core ML itself on macOS, elsewhere an evaluation of what the files say."""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mobile_multimodal.backends import Array
from mobile_multimodal.backends.fixed_shapes import FixedShapeBackend, Graphs
from mobile_multimodal.errors import BundleError, MissingExtraError

__all__ = ["NOT_CHECKED", "open_coreml_backend"]

NOT_CHECKED = (
    "the Neural Engine was not checked here: Core ML alone chooses it, on Apple's devices; where Core ML "
    "does not run, what the package says is computed in torch"
)
FLOAT16, INT32 = 65552, 131104
"""``ArrayFeatureType.ArrayDataType`` of Core ML's model format; float32 is everything else that is taken."""


def open_coreml_backend(files: Mapping[str, Path], graphs: Graphs) -> FixedShapeBackend:
    """Core ML packages, one for each component, behind the ``Backend`` protocol.

    A graph is the function of its name, or ``main`` of a package that holds a single one. On macOS the
    backend is called ``coreml``, elsewhere ``coreml-evaluator``. Packages are opened when first used; pixels
    become what the package takes.

    Raises:
        MissingExtraError: coremltools is not installed.
        BundleError: when run: a package that is damaged, lacks a graph or cannot be run.
    """
    if importlib.util.find_spec("coremltools") is None:
        raise MissingExtraError("coremltools", "export")
    native = sys.platform == "darwin"
    packages = {component: _Package(path, native) for component, path in files.items()}

    def run(component: str, graph: str, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        return packages[component].run(graph, inputs)

    return FixedShapeBackend("coreml" if native else "coreml-evaluator", graphs, run)


class _Package:
    """One package, opened when first used; safe to share between threads."""

    def __init__(self, path: Path, native: bool) -> None:
        self._path = path
        self._native = native
        self._lock = threading.Lock()
        self._taken: dict[str, dict[str, Any]] = {}
        self._program: Any = None
        self._models: dict[str, Any] = {}

    def run(self, graph: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        with self._lock:
            if not self._taken:
                self._open()
            function = graph if graph in self._taken else "main"
            if function not in self._taken:
                raise BundleError(f"{self._path} has no function {graph}", remedy="export the model again")
            model = self._model(function) if self._native else None
        given = {name: self._as_taken(name, x, self._taken[function][name]) for name, x in inputs.items()}
        if model is None:
            outputs: dict[str, Array] = self._program.run(function, given)
            return outputs
        try:
            return {name: np.asarray(x) for name, x in model.predict(given).items()}
        except RuntimeError as exc:
            raise BundleError(f"{self._path}: Core ML cannot run {function}: {exc}") from exc

    def _open(self) -> None:
        from mobile_multimodal.backends.mil_evaluator import MilProgram, read_spec

        description = read_spec(self._path).description
        if not self._native:
            self._program = MilProgram(self._path)
        self._taken = {
            name: {given.name: given.type for given in function.input}
            for name, function in (
                [(function.name, function) for function in description.functions] or [("main", description)]
            )
        }

    def _model(self, function: str) -> Any:
        if function not in self._models:
            from mobile_multimodal.backends.mil_evaluator import quiet_coremltools

            with quiet_coremltools():
                import coremltools

                try:
                    self._models[function] = coremltools.models.MLModel(
                        str(self._path), function_name=None if function == "main" else function
                    )
                except RuntimeError as exc:
                    raise BundleError(f"{self._path}: Core ML refuses it: {exc}") from exc
        return self._models[function]

    def _as_taken(self, name: str, x: Array, kind: Any) -> Any:
        """An input in the type that the package's description asks for, and of a shape that it lists."""
        sizes = [(1, size.height, size.width, 3) for size in kind.imageType.enumeratedSizes.sizes]
        shapes = sizes + [tuple(each.shape) for each in kind.multiArrayType.enumeratedShapes.shapes]
        if shapes and x.shape not in shapes:
            raise BundleError(f"{self._path} takes no {name} of {x.shape}", remedy="export the model again")
        if kind.HasField("imageType"):
            if self._native:
                from PIL import Image

                return Image.fromarray(x[0])
            return x.transpose(0, 3, 1, 2).astype(np.float32)  # [1, H, W, 3] → [1, 3, H, W]
        dtype = {FLOAT16: np.float16, INT32: np.int32}.get(kind.multiArrayType.dataType, np.float32)
        return x.astype(dtype)
