"""Which operators of a model take the time: the runtimes' own profiles of a caption, or of a page."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobile_multimodal.backends import Array, Backend
from mobile_multimodal.backends.litert_backend import silenced
from mobile_multimodal.errors import UsageError
from mobile_multimodal.image import ImageInput, LoadedImage, load_image
from mobile_multimodal.model import MobileMultiModalLLM
from mobile_multimodal.results import GenerationConfig, TaskRequest
from mobile_multimodal.tasks import Runtime, run_tasks

__all__ = ["TRACED_BACKENDS", "OperatorCost", "dearest_operators"]

TRACED_BACKENDS = ("onnxruntime", "torch")
"""Backends whose runtimes time their operators."""
RUNS = 5
"""Captions or pages that are averaged, behind one that is not counted."""

_Spent = dict[tuple[str, str, str], tuple[int, float]]
"""(component, op, name) → calls, and milliseconds of all of them."""


@dataclass(frozen=True)
class OperatorCost:
    """What one operator took of one caption or page.

    ``op`` is its kind (``Conv``, ``aten::addmm``) and ``name`` which of them: ONNX Runtime gives the
    node's name, torch the shapes of its inputs, so that layers of equal sizes are one row. ``calls`` and
    ``ms`` are of one caption, ``percent`` of the time of all operators of all components.
    """

    component: str
    op: str
    name: str
    calls: int
    ms: float
    percent: float


def dearest_operators(
    model: MobileMultiModalLLM,
    image: ImageInput,
    count: int = 10,
    *,
    task: str = "caption",
    threads: int | None = None,
) -> list[OperatorCost]:
    """The operators that cost most of one caption, dearest first; the mean of five behind a first one.

    They are timed in sessions of their own with the options of the model's; what the timing itself
    takes is in the figures, and shows in the shortest operators.

    Args:
        model: what is traced.
        image: a path, bytes, a Pillow picture or uint8 [H, W, 3].
        count: rows at most.
        task: ``"caption"``, or ``"ocr"`` to read the picture instead.
        threads: threads of one inference, as the model was given; for torch they stay as they are.

    Raises:
        UsageError: a runtime that does not time its operators, fewer rows than 1, or a model that
            cannot do the task.
        ImageError: the picture cannot be used.
    """
    if count < 1:
        raise UsageError(f"count {count} is below 1")
    name = model.backend.name
    if name not in TRACED_BACKENDS:
        raise UsageError(
            f"{name} does not time its operators", remedy=f"trace with {' or '.join(TRACED_BACKENDS)}"
        )
    loaded, request = load_image(image), TaskRequest(task)
    trace = _trace_onnxruntime if name == "onnxruntime" else _trace_torch
    spent = trace(model, loaded, request, threads)
    total = sum(ms for _, ms in spent.values())
    dearest = sorted(spent.items(), key=lambda item: -item[1][1])[:count]
    return [
        OperatorCost(*key, calls=calls // RUNS, ms=ms / RUNS, percent=100.0 * ms / total)
        for key, (calls, ms) in dearest
    ]


def _run(model: MobileMultiModalLLM, backend: Backend, image: LoadedImage, request: TaskRequest) -> None:
    tokenizer, names = model.bundle.tokenizer, model.bundle.class_names
    runtime = Runtime(model.config, tokenizer, backend, lambda label: tokenizer.encode(names[label]))
    run_tasks(runtime, [image], [request], GenerationConfig())


def _trace_onnxruntime(
    model: MobileMultiModalLLM, image: LoadedImage, request: TaskRequest, threads: int | None
) -> _Spent:
    with tempfile.TemporaryDirectory(prefix="mmllm-op-tracing-") as folder:
        profiles = Path(folder)
        _run_profiled(model, image, request, threads, profiles)
        components = [component.name for component in model.bundle.manifest.components]
        spent: _Spent = {}
        for path in sorted(profiles.iterdir()):
            component = next(component for component in components if path.name.startswith(component))
            for event in _counted_nodes(json.loads(path.read_text(encoding="utf-8"))):
                node = event["name"].removesuffix("_kernel_time")
                _add(spent, (component, event["args"]["op_name"], node), 1, event["dur"] / 1000.0)
    return spent


def _run_profiled(
    model: MobileMultiModalLLM, image: LoadedImage, request: TaskRequest, threads: int | None, profiles: Path
) -> None:
    """The sessions are closed when this returns, and have written their profiles."""
    from mobile_multimodal.backends.onnx_backend import open_onnx_backend

    components = model.bundle.manifest.components
    files = {component.name: model.bundle.directory / component.weights for component in components}
    graphs = {component.name: component.graphs for component in components}
    backend = open_onnx_backend(files, graphs, threads, profiles)
    for _ in range(1 + RUNS):
        _run(model, backend, image, request)


def _counted_nodes(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The runs of operators, without those of the first caption: each has as many runs of the session."""
    runs = sorted(event["ts"] for event in events if event["name"] == "model_run")
    first = runs[len(runs) // (1 + RUNS)]
    return [event for event in events if event["cat"] == "Node" and event["ts"] >= first]


class _Labelled:
    """A backend whose runs stand in torch's profile under their component's name."""

    def __init__(self, backend: Backend) -> None:
        self.backend, self.name, self.components = backend, backend.name, backend.components

    def run(self, component: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        from torch.profiler import record_function

        with record_function(component):
            return self.backend.run(component, inputs)


def _trace_torch(
    model: MobileMultiModalLLM, image: LoadedImage, request: TaskRequest, _: int | None
) -> _Spent:
    from torch.profiler import ProfilerActivity, profile

    backend = _Labelled(model.backend)
    _run(model, backend, image, request)
    # At start and stop the profiler reports itself on standard error.
    with silenced(2), profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
        for _ in range(RUNS):
            _run(model, backend, image, request)
    spent: _Spent = {}
    for event in profiler.events():
        component = _outermost(event).name
        if component in backend.components and event.name != component and event.self_cpu_time_total > 0:
            shapes = ", ".join("x".join(map(str, shape)) for shape in event.input_shapes if shape)
            _add(spent, (component, event.name, shapes), 1, event.self_cpu_time_total / 1000.0)
    return spent


def _outermost(event: Any) -> Any:
    """The profiled function that called this one, or called the one that did, and so on."""
    while event.cpu_parent is not None:
        event = event.cpu_parent
    return event


def _add(spent: _Spent, key: tuple[str, str, str], calls: int, ms: float) -> None:
    before_calls, before_ms = spent.get(key, (0, 0.0))
    spent[key] = (before_calls + calls, before_ms + ms)
