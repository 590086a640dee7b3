"""The default backend: exported graphs under ONNX Runtime on the CPU."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as states

from mobile_multimodal.backends import Array, Backend
from mobile_multimodal.backends.fixed_shapes import FixedShapeBackend, Graphs
from mobile_multimodal.errors import BundleError

__all__ = ["OnnxBackend", "open_onnx_backend", "session_options"]

_OF_ANY_SIZE = frozenset({"text_detector", "text_recognizer"})
"""Components whose inputs are pages and lines."""
_REFUSALS = (
    states.EPFail,
    states.Fail,
    states.InvalidArgument,
    states.InvalidGraph,
    states.InvalidProtobuf,
    states.NoSuchFile,
    states.NotImplemented,
    states.RuntimeException,
)
"""What ONNX Runtime raises on a graph that it cannot run; they have no base class of their own."""


def session_options(threads: int | None = None, *, any_size: bool = False) -> onnxruntime.SessionOptions:
    """How every session of this package runs its graph; no number of threads means all cores.

    ``any_size``: inputs come in many sizes. For each that comes twice ONNX Runtime would plan the memory of a
    run as one piece, and keep it.
    """
    options = onnxruntime.SessionOptions()
    # 0 lets ONNX Runtime take all cores.
    options.intra_op_num_threads = threads or 0
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_mem_pattern = not any_size
    # Without it the DequantizeLinear of 8-bit weights runs at every call instead of once at load.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    # Spinning threads take the cores from everything else between two calls.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Integer kernels of CPUs without VNNI saturate in 16 bits and give wrong answers.
    options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def open_onnx_backend(
    files: Mapping[str, Path], graphs: Graphs, threads: int | None = None, profiles: Path | None = None
) -> Backend:
    """The backend of an artifact: a file a component, or a folder of ``graphs`` of fixed sizes each.

    ``profiles`` is as in :class:`OnnxBackend`.
    """
    if not any(graphs.values()):
        return OnnxBackend(files, threads, profiles)
    parts = {
        f"{name}/{graph.name}": files[name] / f"{graph.name}.onnx"
        for name in graphs
        for graph in graphs[name]
    }
    opened = OnnxBackend(parts, threads, profiles)

    def run(component: str, graph: str, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        return opened.run(f"{component}/{graph}", inputs)

    return FixedShapeBackend(opened.name, graphs, run)


class OnnxBackend:
    """Runs ``.onnx`` files behind the :class:`~mobile_multimodal.backends.Backend` protocol.

    Sessions are opened when first used, so captioning never loads the text reader; safe to share
    between threads. With a folder for ``profiles`` every session times its operators and writes what it
    found when it is closed, into a file there whose name begins with the component's.
    """

    name = "onnxruntime"

    def __init__(
        self, files: Mapping[str, Path], threads: int | None = None, profiles: Path | None = None
    ) -> None:
        self._files = dict(files)
        self._sessions: dict[str, onnxruntime.InferenceSession] = {}
        self._lock = threading.Lock()
        self._threads = threads
        self._profiles = profiles

    @property
    def components(self) -> tuple[str, ...]:
        """The components that this backend can run."""
        return tuple(self._files)

    def session(self, component: str) -> onnxruntime.InferenceSession:
        """The session of a component, opened when first asked for.

        Raises:
            KeyError: the component is not part of this model.
            BundleError: ONNX Runtime refuses the file.
        """
        with self._lock:
            if component not in self._sessions:
                path = self._files[component]
                options = session_options(self._threads, any_size=component in _OF_ANY_SIZE)
                if self._profiles is not None:
                    options.enable_profiling = True
                    prefix = self._profiles / component.replace("/", ".")
                    options.profile_file_prefix = str(prefix)
                try:
                    self._sessions[component] = onnxruntime.InferenceSession(
                        path, options, providers=["CPUExecutionProvider"]
                    )
                except _REFUSALS as exc:
                    raise BundleError(f"{path}: ONNX Runtime refuses it: {exc}") from exc
            return self._sessions[component]

    def run(self, component: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one component once.

        Raises:
            KeyError: the component is not part of this model.
            BundleError: ONNX Runtime refuses the file, or fails at these inputs.
        """
        session = self.session(component)
        try:
            outputs: list[Any] = session.run(None, dict(inputs))
        except _REFUSALS as exc:
            raise BundleError(f"{self._files[component]}: ONNX Runtime cannot run it: {exc}") from exc
        return {output.name: value for output, value in zip(session.get_outputs(), outputs, strict=True)}
