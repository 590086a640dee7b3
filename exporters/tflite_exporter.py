"""One component → a TFLite file: a signature for each fixed size, all of them on the same weights."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

from exporters.base import ExportOptions, Source
from exporters.fixed_graphs import fixed_graphs
from exporters.plain_math import PlainMath
from exporters.tflite_graph import TfliteModel
from exporters.tflite_weights import store_weights
from mobile_multimodal.backends.litert_backend import silenced
from mobile_multimodal.component_specs import component_specs
from mobile_multimodal.errors import BundleError, MissingExtraError
from mobile_multimodal.fixed_sizes import graph_specs
from mobile_multimodal.manifest import Component

__all__ = ["write_tflite"]


def write_tflite(source: Source, options: ExportOptions, folder: Path) -> Component:
    """Write one component for LiteRT: quantized weights as they are, others in 16 or 32 bits.

    Raises:
        BundleError: a quantized weight that the converter has changed.
        MissingExtraError: litert-torch is not installed.
    """
    with _quiet():
        try:
            import litert_torch
        except ImportError as exc:
            raise MissingExtraError(exc.name or "litert-torch", "export") from exc

        bundle, name = source.bundle, source.component
        specs = graph_specs(source.config, options.sizes)[name]
        converter = litert_torch
        for graph in fixed_graphs(source.network, specs, lowering=PlainMath):
            converter = converter.signature(graph.spec.name, graph.module, sample_kwargs=dict(graph.inputs))
        converted = converter.convert()
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "float.tflite"
            converted.export(str(path))
            model = TfliteModel(path.read_bytes())
    try:
        store_weights(model, bundle.stored_weights(name), halves=options.float_bits == 16)
    except ValueError as exc:
        raise BundleError(f"{name} cannot be stored for TFLite: {exc}") from exc
    output = folder / f"{name}.tflite"
    output.write_bytes(model.to_bytes())
    inputs, outputs = component_specs(name, source.config)
    return Component(name, inputs, outputs, output.name, bundle.component(name).parameters, specs)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Nothing on the terminal: the converter reports progress on both streams, and logs."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            silenced(1, 2),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
