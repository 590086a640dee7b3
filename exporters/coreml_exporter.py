"""Graphs of fixed sizes → one Core ML package: an ML Program with a function for each, or one for all sizes.

Each graph goes through ``torch.export`` and coremltools' converter alone; then the bundle's own weights take
the place of its floats, equal constants are stored once for all functions, and the whole is written once.
Nothing here needs macOS.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from exporters.base import ExportOptions, Source
from exporters.fixed_graphs import FixedGraph, fixed_graphs
from mobile_multimodal.backends.mil_evaluator import load_program, quiet_coremltools, read_spec
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

        from exporters.coreml_package import describe, save_package
        from exporters.coreml_sizes import PIXELS, join_sizes, telling_graphs
        from exporters.coreml_weights import merge_constants, shorten_names, store_weights
except ImportError as exc:
    raise MissingExtraError(exc.name or "coremltools", "export") from exc

__all__ = ["DEPLOYMENT_TARGETS", "PIXEL_TYPE", "PRECISIONS", "write_component", "write_coreml"]

DEPLOYMENT_TARGETS = ("iOS17", "iOS18")
"""The oldest system that opens the package; several functions, 4 and 2 bits begin with iOS 18."""
PRECISIONS = ("float16", "float32")
Converted = tuple[Any, Any]
"""A function, and the protobuf of the package that it would be alone."""
PIXEL_TYPE = torch.float32
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

    A single graph becomes the function ``main``, and so do several that differ in the size of their pixels
    alone: it takes each of their sizes, the first by default. Others become functions of their own names that
    share weights, the first the default. Inputs and outputs have the names and shapes of the graphs' specs:
    ids int32, everything else float32, pixels too (see ``PIXEL_TYPE``); with ``image_input`` pixels are an
    RGB image. ``tensors`` are the component's weights as stored (:meth:`ModelBundle.stored_weights`): whole
    numbers of quantized ones are kept, others are float16 in both precisions.

    Raises:
        UsageError: unknown options, several graphs for iOS 17, an image where no pixels are read, or a weight
            that the graphs do not hold or Core ML cannot store without loss.
        BundleError: coremltools fails at a graph, or the path exists or cannot be written.
    """
    _check(graphs, deployment_target, precision, image_input)
    with quiet_coremltools(), tempfile.TemporaryDirectory() as scratch:

        def convert(graph: FixedGraph) -> Converted:
            return _convert(graph, Path(scratch), deployment_target, precision, image_input)

        program, described = Program(), []
        for name, (function, spec), shapes in _functions(graphs, convert, deployment_target):
            store_weights(
                function, tensors, half=precision == "float16", blockwise=deployment_target != "iOS17"
            )
            merge_constants(function)
            shorten_names(function)
            program.add_function(name, function)
            described.append(describe(name, spec, image_input, shapes))
        whole = Path(scratch, "whole.mlpackage")
        save_package(program, described, spec.specificationVersion, whole)
        try:
            shutil.copytree(whole, path)
        except OSError as exc:
            raise BundleError(f"{path} cannot be written: {exc}", remedy="name another output") from exc


def _functions(
    graphs: Sequence[FixedGraph], convert: Callable[[FixedGraph], Converted], deployment_target: str
) -> Iterator[tuple[str, Converted, Sequence[Sequence[int]]]]:
    """Names, functions, and the shapes that pixels may have where those are several."""
    if told := [convert(graph) for graph in telling_graphs(graphs)]:
        joined = join_sizes([function for function, _ in told])
        if joined is not None:
            yield "main", (joined, told[0][1]), [graph.inputs[PIXELS].shape for graph in graphs]
            return
        _refuse_several(graphs, deployment_target)
    for graph in graphs:
        yield "main" if len(graphs) == 1 else graph.spec.name, convert(graph), ()


def _check(graphs: Sequence[FixedGraph], deployment_target: str, precision: str, image_input: bool) -> None:
    for value, known in ((deployment_target, DEPLOYMENT_TARGETS), (precision, PRECISIONS)):
        if value not in known:
            raise UsageError(f"{value!r} is none of {', '.join(known)}")
    if not telling_graphs(graphs):
        _refuse_several(graphs, deployment_target)
    if image_input and any(PIXELS not in graph.inputs for graph in graphs):
        raise UsageError("only a component that reads pixels can take an image")


def _refuse_several(graphs: Sequence[FixedGraph], deployment_target: str) -> None:
    if len(graphs) > 1 and deployment_target == "iOS17":
        names = ", ".join(graph.spec.name for graph in graphs)
        raise UsageError(
            f"iOS 17 opens no package of several functions ({names})",
            remedy="deployment target iOS18, or a package for each",
        )


def _convert(
    graph: FixedGraph, scratch: Path, deployment_target: str, precision: str, image_input: bool
) -> Converted:
    """One graph in floats, and the description of the package that it would be alone."""
    inputs = {
        name: given.to(PIXEL_TYPE) if given.dtype == torch.uint8 else given
        for name, given in graph.inputs.items()
    }
    module = graph.module
    if image_input:
        module = _OfImage(module).eval()
        inputs[PIXELS] = inputs[PIXELS].permute(0, 3, 1, 2).contiguous()
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
    path = scratch / f"{graph.spec.name}.mlpackage"
    model.save(str(path))
    spec = read_spec(path)
    function = load_program(path, spec).functions["main"]
    shutil.rmtree(path)
    return function, spec
