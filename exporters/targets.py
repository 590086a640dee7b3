"""The one table of formats: a new format is one file and one line here."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass

from exporters.base import Convert
from mobile_multimodal.backends.coreml_backend import NOT_CHECKED
from mobile_multimodal.errors import UsageError

__all__ = ["TARGETS", "ExportTarget", "find_target"]


@dataclass(frozen=True)
class ExportTarget:
    """A format: what writes it, what runs it, and what that needs.

    ``convert`` is ``module:function`` (:data:`exporters.base.Convert`), imported when it is used. ``fixed``
    says that its graphs have fixed sizes. ``tools`` are the packages whose versions an artifact names;
    ``notes`` say what parity here leaves open.
    """

    name: str
    suffix: str
    convert: str
    backend: str
    fixed: bool
    tools: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def converter(self) -> Convert:
        """The function that writes one component.

        Raises:
            MissingExtraError: a package that it needs is not installed.
        """
        module, _, function = self.convert.partition(":")
        convert: Convert = getattr(importlib.import_module(module), function)
        return convert


TARGETS: Mapping[str, ExportTarget] = {
    target.name: target
    for target in (
        ExportTarget(
            name="onnx",
            suffix=".onnx",
            convert="exporters.onnx_exporter:write_onnx",
            backend="onnxruntime",
            fixed=False,
            tools=("torch", "onnx", "onnxscript"),
        ),
        ExportTarget(
            name="tflite",
            suffix=".tflite",
            convert="exporters.tflite_exporter:write_tflite",
            backend="litert",
            fixed=True,
            tools=("torch", "litert-torch", "ai-edge-litert"),
            notes=("phones and their accelerators were not checked here",),
        ),
        ExportTarget(
            name="coreml",
            suffix=".mlpackage",
            convert="exporters.coreml_exporter:write_component",
            backend="coreml",
            fixed=True,
            tools=("torch", "coremltools"),
            notes=(NOT_CHECKED,),
        ),
    )
}


def find_target(name: str) -> ExportTarget:
    """The format of this name.

    Raises:
        UsageError: there is none.
    """
    if name not in TARGETS:
        raise UsageError(f"unknown target {name!r}", remedy=f"one of {', '.join(TARGETS)}")
    return TARGETS[name]
