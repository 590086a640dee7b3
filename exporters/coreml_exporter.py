"""Graphs of fixed sizes → one Core ML package: an ML Program with a function for each graph.

Each graph goes through ``torch.export`` and coremltools' converter alone; then the bundle's own weights take
the place of its floats, equal constants are stored once for all functions, and the whole is written once.
Nothing here needs macOS.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporters.base import ExportOptions, Source
from exporters.fixed_graphs import FixedGraph, fixed_graphs
from mobile_multimodal.backends.mil_evaluator import load_program, package_parts, quiet_coremltools, read_spec
from mobile_multimodal.component_specs import component_specs
from mobile_multimodal.errors import BundleError, MissingExtraError, UsageError
from mobile_multimodal.fixed_sizes import graph_specs
from mobile_multimodal.manifest import Component, GraphSpec
from mobile_multimodal.weight_files import StoredTensor

try:
    import torch
    from torch import Tensor, nn

    with quiet_coremltools():
        import coremltools
        from coremltools.converters.mil import Program
        from coremltools.converters.mil.converter import mil_convert

        from exporters.coreml_weights import merge_constants, share_constants, shorten_names, store_weights
except ImportError as exc:
    raise MissingExtraError(exc.name or "coremltools", "export") from exc

__all__ = [
    "DEPLOYMENT_TARGETS",
    "PIXELS",
    "PRECISIONS",
    "StoredWeight",
    "read_back",
    "write_component",
    "write_coreml",
]

DEPLOYMENT_TARGETS = ("iOS17", "iOS18")
"""The oldest system that opens the package; several functions, 4 and 2 bits begin with iOS 18."""
PRECISIONS = ("float16", "float32")
PIXELS = torch.float32
"""Core ML has no inputs of whole numbers in 8 bits: pixels come as floats of 0..255, or as an image."""


class _OfImage(nn.Module):
    """A network that takes pixels as Core ML hands on an image: [1, 3, H, W]."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixel_values: Tensor) -> Any:
        """Pixels [1, 3, H, W] → the network's outputs."""
        return self.network(pixel_values=pixel_values.permute(0, 2, 3, 1))


def write_component(source: Source, options: ExportOptions, folder: Path) -> Component:
    """Write one component for Core ML: quantized weights as they are, others in float16.

    ``options.float_bits`` says in what the package computes; ``image_input`` concerns what reads pixels.

    Raises:
        UsageError, BundleError: as :func:`write_coreml`.
    """
    bundle, name = source.bundle, source.component
    specs = graph_specs(source.config, options.sizes)[name]
    package = folder / f"{name}.mlpackage"
    write_coreml(
        fixed_graphs(source.network, specs),
        bundle.stored_weights(name),
        package,
        deployment_target=options.deployment_target,
        precision=f"float{options.float_bits}",
        image_input=options.image_input and name != "text_decoder",
    )
    inputs, outputs = component_specs(name, source.config)
    taken = specs if options.image_input else tuple(map(_as_taken, specs))
    return Component(name, inputs, outputs, package.name, bundle.component(name).parameters, taken)


def _as_taken(spec: GraphSpec) -> GraphSpec:
    """The graph with its pixels as the package takes them: floats of 0..255."""
    inputs = (replace(given, dtype="float32") if given.dtype == "uint8" else given for given in spec.inputs)
    return replace(spec, inputs=tuple(inputs))


def write_coreml(
    graphs: Sequence[FixedGraph],
    tensors: Mapping[str, StoredTensor],
    path: Path,
    *,
    deployment_target: str = "iOS18",
    precision: str = "float16",
    image_input: bool = False,
) -> None:
    """Write the ``.mlpackage`` of one component.

    A single graph becomes the function ``main``; several become functions of their own names that share
    weights, the first the default. Inputs and outputs have the names and shapes of the graphs' specs: ids
    int32, everything else float32, pixels too (see ``PIXELS``); with ``image_input`` pixels are an RGB image.
    ``tensors`` are the component's weights as stored (:meth:`ModelBundle.stored_weights`): whole numbers of
    quantized ones are kept, others are float16 in both precisions.

    Raises:
        UsageError: unknown options, several graphs for iOS 17, an image where no pixels are read, or a weight
            that the graphs do not hold or Core ML cannot store without loss.
        BundleError: coremltools fails at a graph, or the path exists or cannot be written.
    """
    _check(graphs, deployment_target, precision, image_input)
    program = Program()
    described = []
    with quiet_coremltools(), tempfile.TemporaryDirectory() as scratch:
        for index, graph in enumerate(graphs):
            converted = Path(scratch, f"{index}.mlpackage")
            _convert(graph, converted, deployment_target, precision, image_input)
            spec = read_spec(converted)
            function = load_program(converted, spec).functions["main"]
            store_weights(
                function, tensors, half=precision == "float16", blockwise=deployment_target != "iOS17"
            )
            merge_constants(function)
            shorten_names(function)
            name = "main" if len(graphs) == 1 else graph.spec.name
            program.add_function(name, function)
            described.append(_describe(name, spec, image_input))
            shutil.rmtree(converted)
        _save(program, described, spec.specificationVersion, Path(scratch, "whole.mlpackage"))
        _make_reproducible(Path(scratch, "whole.mlpackage"))
        try:
            shutil.copytree(Path(scratch, "whole.mlpackage"), path)
        except OSError as exc:
            raise BundleError(f"{path} cannot be written: {exc}", remedy="name another output") from exc


def _check(graphs: Sequence[FixedGraph], deployment_target: str, precision: str, image_input: bool) -> None:
    for value, known in ((deployment_target, DEPLOYMENT_TARGETS), (precision, PRECISIONS)):
        if value not in known:
            raise UsageError(f"{value!r} is none of {', '.join(known)}")
    if len(graphs) > 1 and deployment_target == "iOS17":
        names = ", ".join(graph.spec.name for graph in graphs)
        raise UsageError(
            f"iOS 17 opens no package of several functions ({names})",
            remedy="deployment target iOS18, or a package for each",
        )
    if image_input and any("pixel_values" not in graph.inputs for graph in graphs):
        raise UsageError("only a component that reads pixels can take an image")


def _convert(
    graph: FixedGraph, path: Path, deployment_target: str, precision: str, image_input: bool
) -> None:
    """One graph in floats, as a package of its own."""
    inputs = {
        name: given.to(PIXELS) if given.dtype == torch.uint8 else given
        for name, given in graph.inputs.items()
    }
    module = graph.module
    if image_input:
        module = _OfImage(module).eval()
        inputs["pixel_values"] = inputs["pixel_values"].permute(0, 3, 1, 2).contiguous()
    with torch.no_grad():
        captured = torch.export.export(module, args=(), kwargs=inputs).run_decompositions({})
    try:
        model = coremltools.convert(
            captured,
            # Without a dtype the outputs of a float16 program would be float16.
            outputs=[coremltools.TensorType(output.name, dtype=np.float32) for output in graph.spec.outputs],
            minimum_deployment_target=getattr(coremltools.target, deployment_target),
            compute_precision=getattr(coremltools.precision, precision.upper()),
            skip_model_load=True,
        )
    except (NotImplementedError, RuntimeError, ValueError) as exc:
        raise BundleError(f"coremltools cannot convert {graph.spec.name}: {exc}") from exc
    model.save(str(path))


def _describe(name: str, spec: Any, image_input: bool) -> Any:
    """What the package says of a function."""
    description = coremltools.proto.Model_pb2.FunctionDescription(
        name=name, input=spec.description.input, output=spec.description.output
    )
    for given in description.input:
        if image_input and given.name == "pixel_values":
            _, _, height, width = given.type.multiArrayType.shape
            image = coremltools.proto.FeatureTypes_pb2.ImageFeatureType
            given.type.imageType.CopyFrom(image(width=width, height=height, colorSpace=image.RGB))
    return description


def _save(program: Any, described: Sequence[Any], version: int, path: Path) -> None:
    share_constants(program)
    # Passes have all run before. The empty pipeline spares the checks behind each of them.
    program.skip_all_passes = True
    if len(described) == 1:
        (only,) = described
        description = coremltools.proto.Model_pb2.ModelDescription(input=only.input, output=only.output)
    else:
        program.export_as_multifunction = True
        program.default_function_name = described[0].name
        description = coremltools.proto.Model_pb2.ModelDescription(
            functions=described, defaultFunctionName=described[0].name
        )
    model = mil_convert(
        program,
        convert_from="milinternal",
        convert_to="mlprogram",
        specification_version=version,
        compute_units=coremltools.ComputeUnit.ALL,
        model_description=description,
        pass_pipeline=coremltools.PassPipeline.EMPTY,
        skip_model_load=True,
    )
    model.save(str(path))


def _make_reproducible(package: Path) -> None:
    """Give the package's entries names that follow from what they are, where coremltools draws them anew."""
    manifest = package / "Manifest.json"
    content = json.loads(manifest.read_text(encoding="utf-8"))
    names = {
        key: str(uuid.uuid5(uuid.NAMESPACE_URL, entry["path"])).upper()
        for key, entry in content["itemInfoEntries"].items()
    }
    entries = sorted(content["itemInfoEntries"].items(), key=lambda item: names[item[0]])
    content["itemInfoEntries"] = {names[key]: entry for key, entry in entries}
    content["rootModelIdentifier"] = names[content["rootModelIdentifier"]]
    manifest.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")
    file = package_parts(package)[0]
    file.write_bytes(read_spec(package).SerializeToString(deterministic=True))


@dataclass(frozen=True)
class StoredWeight:
    """A quantized weight as a package holds it.

    ``levels`` int8 in the stored layout; ``scale`` one for each block of the levels, along every axis;
    ``palette`` the levels that 2-bit indices stand for, None where whole numbers are stored.
    """

    operation: str
    levels: NDArray[np.int8]
    scale: NDArray[np.floating[Any]]
    palette: tuple[int, ...] | None = None


def read_back(path: Path) -> dict[str, dict[str, StoredWeight]]:
    """The quantized weights of a saved package, by function and by the bundle's names, ``.`` as ``_``.

    Raises:
        BundleError: no package, or a damaged one.
    """
    program = load_program(path, read_spec(path))
    return {
        name: {
            op.name: _stored_weight(op)
            for op in function.operations
            if op.op_type in ("constexpr_blockwise_shift_scale", "constexpr_affine_dequantize")
        }
        for name, function in program.functions.items()
    }


def _stored_weight(op: Any) -> StoredWeight:
    data = op.inputs["data" if op.op_type == "constexpr_blockwise_shift_scale" else "quantized_data"]
    palette = None
    levels = data.val
    if levels is None:
        table = data.op.inputs["lut"].val.reshape(-1).astype(int)
        palette = tuple(table.tolist())
        levels = table[data.op.inputs["indices"].val]
    return StoredWeight(op.op_type, levels.astype(np.int8), op.inputs["scale"].val, palette)
