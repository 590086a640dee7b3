"""Measures of the runtime's integer kernels: on CPUs without VNNI they saturate unless told not to."""

from __future__ import annotations

from importlib import resources
from typing import Any

import numpy as np

from benchmarks.gate import Measured
from benchmarks.gate_subject import GateSubject, NotRequiredError

__all__ = [
    "INTEGER_SETTINGS",
    "KERNEL_FILE",
    "KERNEL_SCALE",
    "KERNEL_ZERO",
    "integer_reference",
    "kernel_inputs",
    "measure_integer_kernels",
    "measure_integer_settings",
]

INTEGER_SETTINGS = {"session.x64quantprecision": "1", "session.disable_quant_qdq": "1"}
"""Settings of ONNX Runtime without which 8-bit products saturate in 16 bits on CPUs without VNNI: the first
widens its integer kernels, the second keeps stored 8-bit weights out of them."""
KERNEL_FILE = "integer_kernel.onnx"
"""``x`` float32 [8, 64] and the weight of :func:`kernel_inputs` [64, 64]: ``product``, of both as 8-bit
integers by way of QuantizeLinear, and ``whole``, by MatMulInteger."""
KERNEL_SCALE = np.float32(0.03125)
KERNEL_ZERO = 7


def measure_integer_settings(subject: GateSubject) -> Measured:
    """How many of ``INTEGER_SETTINGS`` the session of the model's first component lacks.

    Raises:
        NotRequiredError: another runtime than ONNX Runtime.
    """
    options = _session_options(subject)
    lacking = [name for name, value in INTEGER_SETTINGS.items() if _entry(options, name) != value]
    note = f"not set: {', '.join(lacking)}" if lacking else f"{len(INTEGER_SETTINGS)} settings"
    return Measured(float(len(lacking)), note=note)


def measure_integer_kernels(subject: GateSubject) -> Measured:
    """The error of 8-bit products at the ends of their range against whole numbers in numpy, relative.

    They run with the settings of the model's own sessions. Where the CPU has VNNI nothing can saturate.

    Raises:
        NotRequiredError: another runtime than ONNX Runtime.
    """
    import onnxruntime

    options = _session_options(subject)
    file = (resources.files("benchmarks") / "gates" / KERNEL_FILE).read_bytes()
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    x, levels, weight = kernel_inputs()
    wanted = integer_reference(levels, weight)
    product, whole = session.run(["product", "whole"], {"x": x, "levels": levels})
    largest = float(np.abs(wanted).max())
    errors = {
        "by QuantizeLinear": float(np.abs(product / KERNEL_SCALE - wanted).max()) / largest,
        "by MatMulInteger": float(np.abs(whole.astype(np.int64) - wanted).max()) / largest,
    }
    worst = max(errors, key=lambda name: errors[name])
    return Measured(errors[worst], note=f"largest {worst}")


def kernel_inputs() -> tuple[Any, Any, Any]:
    """``x`` float32 [8, 64], its levels uint8, and the weight int8 [64, 64]: all at their ends."""
    rng = np.random.default_rng(2)
    weight = rng.choice(np.array([-127, 127, 126, -3], np.int8), (64, 64))
    levels = rng.choice(np.array([0, 10, 254, 255], np.uint8), (8, 64))
    x = (levels.astype(np.float32) - KERNEL_ZERO) * KERNEL_SCALE
    return x, levels, weight


def integer_reference(levels: Any, weight: Any) -> Any:
    """The product of both as whole numbers, int64 [8, 64]."""
    return (levels.astype(np.int64) - KERNEL_ZERO) @ weight.astype(np.int64)


def _session_options(subject: GateSubject) -> Any:
    if subject.backend != "onnxruntime":
        raise NotRequiredError(f"{subject.backend} has none of ONNX Runtime's integer kernels")
    from mobile_multimodal.backends.onnx_backend import OnnxBackend

    backend = subject.loaded.backend
    if isinstance(backend, OnnxBackend):
        return backend.session(backend.components[0]).get_session_options()
    # Graphs of fixed sizes hide their sessions; they are opened by the same class, with the same settings.
    with resources.as_file(resources.files("benchmarks") / "gates" / KERNEL_FILE) as path:
        return OnnxBackend({"kernel": path}).session("kernel").get_session_options()


def _entry(options: Any, name: str) -> str | None:
    try:
        return str(options.get_session_config_entry(name))
    except RuntimeError:  # ONNX Runtime's answer to a setting that was never made
        return None
