"""Bundle → ONNX artifact: capture each network, check it, store its weights as the recipe says."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

from mobile_multimodal.bundle import ModelBundle, check_output, save_directory
from mobile_multimodal.component_specs import component_specs
from mobile_multimodal.config import ModelConfig
from mobile_multimodal.errors import MissingExtraError, UsageError
from mobile_multimodal.manifest import Component
from mobile_multimodal.quantized_tensor import QuantizedTensor

try:
    import onnx
    import onnxscript  # noqa: F401 - torch's exporter needs it, and says so only when it runs
    import torch
    from torch import Tensor, nn

    from exporters.onnx_weights import OPSETS, store_weights
    from mobile_multimodal.backends.torch_backend import load_modules
except ImportError as exc:
    raise MissingExtraError(exc.name or "onnx", "export") from exc

__all__ = ["OPSET", "capture", "export_onnx", "sample_inputs", "strip_metadata"]

OPSET = 23
"""From 23 on attention is one operator; 26 leaves an invalid file without raising."""

TOOLS = ("torch", "onnx", "onnxscript")


def sample_inputs(component: str, config: ModelConfig) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Inputs that a graph is captured with, and which of their axes vary.

    Sizes of 0 and 1 would be taken as fixed, so every varying axis has a larger one.
    """
    specs, _ = component_specs(component, config)
    sizes = {"batch": 2, "steps": 3, "cached": 5, "cached_and_steps": 8, "height": 96, "width": 160}
    inputs: dict[str, Tensor] = {}
    axes: dict[str, dict[int, Any]] = {}
    for spec in specs:
        shape = [sizes[size] if isinstance(size, str) else size for size in spec.shape]
        dtype = getattr(torch, spec.dtype)
        inputs[spec.name] = torch.zeros(shape, dtype=dtype)
        axes[spec.name] = {
            i: torch.export.Dim.DYNAMIC for i, size in enumerate(spec.shape) if isinstance(size, str)
        }
    return inputs, axes


def capture(component: str, module: nn.Module, config: ModelConfig, opset: int = OPSET) -> onnx.ModelProto:
    """One network as a checked ONNX model whose axes carry the names of its specs."""
    inputs, axes = sample_inputs(component, config)
    wanted, given = component_specs(component, config)
    for parameter in module.parameters():
        parameter.data = parameter.data.contiguous()
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        # The exporter reports progress on stdout, which belongs to the result.
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            module,
            kwargs=inputs,
            dynamo=True,
            opset_version=opset,
            input_names=[spec.name for spec in wanted],
            output_names=[spec.name for spec in given],
            dynamic_shapes=axes,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    for spec, value in [
        *zip(wanted, model.graph.input, strict=True),
        *zip(given, model.graph.output, strict=True),
    ]:
        for axis, size in enumerate(spec.shape):
            if isinstance(size, str):
                value.type.tensor_type.shape.dim[axis].dim_param = size
    strip_metadata(model)
    onnx.checker.check_model(model, full_check=True)
    return model


def strip_metadata(model: onnx.ModelProto) -> None:
    """Drop the exporter's notes of source lines: a quarter of a megabyte, and paths of this machine."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    del model.graph.metadata_props[:]
    del model.graph.value_info[:]
    del model.metadata_props[:]


def export_onnx(bundle: ModelBundle, output: Path, *, force: bool = False) -> ModelBundle:
    """Write an artifact for ONNX Runtime from a bundle: quantized weights as they are, others in float32.

    Raises:
        UsageError: an output that exists or is the bundle itself.
        BundleError: weights that do not fit the bundle's config.json, or an output that cannot be written.
        MissingExtraError: safetensors is not installed.
    """
    check_output(output, force=force)
    if output.resolve() == bundle.directory.resolve():
        raise UsageError(f"{output} is the bundle that is exported", remedy="name another output")
    modules = load_modules(bundle)
    components = []
    with tempfile.TemporaryDirectory() as scratch:
        contents: dict[str, Path | bytes] = {}
        for name, module in modules.items():
            stored = bundle.stored_weights(name).items()
            quantized = {key: x for key, x in stored if isinstance(x, QuantizedTensor)}
            opset = max([OPSET, *(OPSETS.get(x.scheme.bits, OPSET) for x in quantized.values())])
            model = capture(name, module, bundle.config, opset)
            store_weights(model, quantized)
            path = Path(scratch) / f"{name}.onnx"
            onnx.save_model(model, path)
            inputs, outputs = component_specs(name, bundle.config)
            parameters = bundle.component(name).parameters
            components.append(Component(name, inputs, outputs, path.name, parameters))
            contents[path.name] = path
        card = bundle.directory / "README.md"
        if card.exists():
            contents["README.md"] = card
        return save_directory(
            output,
            contents,
            kind="artifact",
            target="onnx",
            recipe="float32" if bundle.recipe == "float16" else bundle.recipe,
            config=bundle.config,
            tokenizer=bundle.tokenizer,
            class_names=bundle.class_names,
            components=tuple(components),
            tool_versions={tool: importlib.metadata.version(tool) for tool in TOOLS},
            # The float bundle that everything began with, whatever was quantized in between.
            bundle_sha256=bundle.manifest.bundle_sha256 or bundle.sha256,
            force=force,
        )
