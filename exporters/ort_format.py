"""ONNX graphs in ONNX Runtime's own format, which its smallest builds for phones read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mobile_multimodal.errors import MissingExtraError, UsageError
from mobile_multimodal.quantized_tensor import QuantizedTensor

try:
    import onnxruntime
except ImportError as exc:
    raise MissingExtraError("onnxruntime", "export") from exc

__all__ = ["check_ort", "write_ort"]

SUFFIX = ".ort"
LEAST_BITS = 8
"""ONNX Runtime 1.32 writes constants of 4 and 2 bits into its format, and refuses to read them."""


def check_ort(name: str, weights: Iterable[QuantizedTensor]) -> None:
    """Refuse weights that the format does not hold.

    Raises:
        UsageError: weights of less than 8 bits.
    """
    bits = min((tensor.scheme.bits for tensor in weights), default=LEAST_BITS)
    if bits < LEAST_BITS:
        raise UsageError(
            f"{name} has weights of {bits} bits, which ONNX Runtime's own format does not know",
            remedy="leave --ort out",
        )


def write_ort(graph: Path) -> Path:
    """Write ``NAME.ort`` in the place of ``NAME.onnx``: the same operators, none of them optimized.

    Optimizing here would fold quantized weights into floats, four times as large.
    """
    path = graph.with_suffix(SUFFIX)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    graph.unlink()
    return path
