"""TFLite files under LiteRT on the CPU: one file a component, one signature for each of its fixed sizes."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mobile_multimodal.backends import Array
from mobile_multimodal.backends.fixed_shapes import FixedShapeBackend, Graphs
from mobile_multimodal.errors import BundleError, MissingExtraError

__all__ = ["INTERPRETERS", "open_litert_backend", "silenced"]


def _litert_interpreter() -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as exc:
        raise MissingExtraError("ai-edge-litert", "litert") from exc
    return Interpreter


def _tensorflow_interpreter() -> Any:
    try:
        with silenced(2):  # it reports at import which processors it looked for
            import tensorflow
    except ImportError as exc:
        raise MissingExtraError("tensorflow", "tensorflow") from exc
    return tensorflow.lite.Interpreter


INTERPRETERS: Mapping[str, Callable[[], Any]] = {
    "litert": _litert_interpreter,
    "tensorflow": _tensorflow_interpreter,
}
"""Where the class comes from that runs a file."""


class _Files:
    """Interpreters, opened when first used; each runs one call at a time."""

    def __init__(self, files: Mapping[str, Path], threads: int | None, interpreter: Any) -> None:
        self._files, self._threads, self._interpreter = dict(files), threads, interpreter
        self._opened: dict[str, Any] = {}
        self._runners: dict[tuple[str, str], Any] = {}
        self._lock = threading.Lock()

    def run(self, component: str, graph: str, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        path = self._files[component]
        with self._lock:
            try:
                if (component, graph) in self._runners:
                    outputs: Mapping[str, Array] = self._runners[component, graph](**inputs)
                else:
                    with silenced(2):  # at a graph's first call the runtime reports its delegate
                        runner = self._runner(component, graph)
                        outputs = runner(**inputs)
                    self._runners[component, graph] = runner
            except (ValueError, RuntimeError) as exc:
                line = (str(exc) or type(exc).__name__).splitlines()[0][:300]
                raise BundleError(f"{path}: {graph} cannot be run: {line}") from exc
        return outputs

    def _runner(self, component: str, graph: str) -> Any:
        if component not in self._opened:
            path = str(self._files[component])
            self._opened[component] = self._interpreter(path, num_threads=self._threads)
        return self._opened[component].get_signature_runner(graph)


@contextmanager
def silenced(*descriptors: int) -> Iterator[None]:
    """Nothing is written to these file descriptors of the process, not by C++ either."""
    kept = [os.dup(number) for number in descriptors]
    try:
        with open(os.devnull, "w") as nothing:
            for number in descriptors:
                os.dup2(nothing.fileno(), number)
        yield
    finally:
        for number, copy in zip(descriptors, kept, strict=True):
            os.dup2(copy, number)
            os.close(copy)


def open_litert_backend(
    files: Mapping[str, Path], graphs: Graphs, threads: int | None = None, interpreter: str = "litert"
) -> FixedShapeBackend:
    """The backend of an artifact for TFLite; safe to share between threads.

    ``interpreter`` is one of ``INTERPRETERS``. Nothing is opened before it is first run.

    Raises:
        MissingExtraError: the interpreter is not installed.
        KeyError: an interpreter of another name.
    """
    opened = _Files(files, threads, INTERPRETERS[interpreter]())
    return FixedShapeBackend(interpreter, graphs, opened.run)
