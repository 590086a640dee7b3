"""One component → an ONNX graph: capture the network, check it, store its weights as the bundle has them."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from exporters.base import ExportOptions, Source
from mobile_multimodal.component_specs import component_specs
from mobile_multimodal.config import ModelConfig
from mobile_multimodal.errors import MissingExtraError, UsageError
from mobile_multimodal.fixed_sizes import graph_specs
from mobile_multimodal.manifest import Component
from mobile_multimodal.quantized_tensor import QuantizedTensor

try:
    import onnx
    import onnxscript  # noqa: F401 - torch's exporter needs it, and says so only when it runs
    import torch
    from torch import Tensor, nn

    from exporters.fixed_graphs import FixedGraph, fixed_graphs
    from exporters.onnx_fixed import write_fixed
    from exporters.onnx_weights import OPSETS, store_halves, store_weights
    from exporters.ort_format import check_ort, write_ort
except ImportError as exc:
    raise MissingExtraError(exc.name or "onnx", "export") from exc

__all__ = [
    "NEWEST_OPSET",
    "OPSET",
    "capture",
    "capture_fixed",
    "sample_inputs",
    "shorten_names",
    "strip_metadata",
    "write_onnx",
]

OPSET = 23
"""From 23 on attention is one operator; 26 leaves an invalid file without raising."""

NEWEST_OPSET = 25


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
    model = _export(module, inputs, [spec.name for spec in given], opset, axes)
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


def capture_fixed(graph: FixedGraph, opset: int = OPSET) -> onnx.ModelProto:
    """One graph of fixed sizes as a checked ONNX model; whole numbers have 32 bits."""
    names = [spec.name for spec in graph.spec.outputs]
    model = _export(graph.module, dict(graph.inputs), names, opset, None)
    strip_metadata(model)
    onnx.checker.check_model(model, full_check=True)
    return model


def _export(
    module: nn.Module,
    inputs: dict[str, Tensor],
    outputs: Sequence[str],
    opset: int,
    axes: dict[str, dict[int, Any]] | None,
) -> onnx.ModelProto:
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        # The exporter reports progress on stdout, which belongs to the result.
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            module,
            kwargs=inputs,
            dynamo=True,
            opset_version=opset,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=axes,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def strip_metadata(model: onnx.ModelProto) -> None:
    """Drop the exporter's notes of source lines: a quarter of a megabyte, and paths of this machine."""
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    del model.graph.metadata_props[:]
    del model.graph.value_info[:]
    del model.metadata_props[:]


def shorten_names(model: onnx.ModelProto) -> None:
    """Number the nodes and what they compute, in place: the exporter's names are long paths.

    Inputs, outputs and constants keep their names.
    """
    outputs = {value.name for value in model.graph.output}
    short: dict[str, str] = {}
    for number, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{number}"
        for position, name in enumerate(node.input):
            node.input[position] = short.get(name, name)
        for position, name in enumerate(node.output):
            if name and name not in outputs:
                node.output[position] = short[name] = (
                    f"v{number}" if position == 0 else f"v{number}_{position}"
                )


def write_onnx(source: Source, options: ExportOptions, folder: Path) -> Component:
    """Write one component for ONNX Runtime: quantized weights as they are, others in 16 or 32 bits.

    Raises:
        UsageError: an operator set that the weights, or attention as one operator, do not know; or weights
            that ONNX Runtime's own format does not.
    """
    bundle, name = source.bundle, source.component
    weights = bundle.stored_weights(name).items()
    quantized = {key: x for key, x in weights if isinstance(x, QuantizedTensor)}
    least = max([OPSET, *(OPSETS.get(x.scheme.bits, OPSET) for x in quantized.values())])
    opset = least if options.opset is None else options.opset
    if not least <= opset <= NEWEST_OPSET:
        raise UsageError(
            f"{name} of recipe {bundle.recipe} cannot be exported in opset {opset}",
            remedy=f"give --opset {least} to {NEWEST_OPSET}, or leave it out",
        )
    if options.ort:
        check_ort(name, quantized.values())
    inputs, outputs = component_specs(name, source.config)
    parameters = bundle.component(name).parameters

    def stored(model: onnx.ModelProto) -> onnx.ModelProto:
        store_weights(model, quantized)
        if options.float_bits == 16:
            store_halves(model)
        shorten_names(model)
        onnx.checker.check_model(model, full_check=True)
        return model

    if options.static:
        specs = graph_specs(source.config, options.sizes)[name]
        graphs = [stored(capture_fixed(graph, opset)) for graph in fixed_graphs(source.network, specs)]
        write_fixed([spec.name for spec in specs], graphs, folder / name, _check_file)
        return Component(name, inputs, outputs, name, parameters, specs)
    path = folder / f"{name}.onnx"
    onnx.save_model(stored(capture(name, source.network, source.config, opset)), path)
    if options.ort:
        path = write_ort(path)
    return Component(name, inputs, outputs, path.name, parameters)


def _check_file(path: Path) -> None:
    onnx.checker.check_model(str(path), full_check=True)
