"""Core ML packages run without Core ML: the saved program, operation by operation, in torch.

Core ML runs on Apple's systems alone. What a package holds can still be checked everywhere: this reads the
saved file (graph, weights, how weights are stored) and computes what it says, with half precision where it
says so. It tells nothing about speed, and nothing about what Apple's compiler and chips round otherwise.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mobile_multimodal.backends import Array
from mobile_multimodal.errors import BundleError, MissingExtraError

try:
    import torch
    from torch import Tensor

    from mobile_multimodal.backends.mil_operators import DTYPES, OPERATORS
except ImportError as exc:
    raise MissingExtraError("torch", "export") from exc

__all__ = ["MilProgram", "load_program", "package_parts", "quiet_coremltools", "read_spec"]

PACKAGED = Path("Data", "com.apple.CoreML")
"""Where in a package coremltools puts the model and its weights."""
CHATTY = ("coremltools", "torchao", "torch.utils._pytree")
DAMAGE = (
    AssertionError,
    AttributeError,
    IndexError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What coremltools' reader of programs raises on a file that makes no sense to it."""


@contextlib.contextmanager
def quiet_coremltools() -> Iterator[None]:
    """Let coremltools neither warn nor draw progress bars while this is open.

    Raises:
        MissingExtraError: coremltools is not installed.
    """
    loggers = [logging.getLogger(name) for name in CHATTY]
    levels = [logger.level for logger in loggers]
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    import coremltools  # noqa: F401 - its import is the loudest part
                except ImportError as exc:
                    raise MissingExtraError("coremltools", "export") from exc
                yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def package_parts(package: Path) -> tuple[Path, Path]:
    """The model file of a package and the directory of its weights."""
    return package / PACKAGED / "model.mlmodel", package / PACKAGED / "weights"


def read_spec(package: Path) -> Any:
    """The ``Model`` protobuf of a package.

    Raises:
        BundleError: no package, or one that cannot be parsed.
        MissingExtraError: coremltools is not installed.
    """
    with quiet_coremltools():
        from coremltools import proto
        from google.protobuf.message import DecodeError

        spec = proto.Model_pb2.Model()
        try:
            spec.ParseFromString(package_parts(package)[0].read_bytes())
        except (OSError, DecodeError) as exc:
            raise BundleError(f"{package} is no Core ML package: {exc}") from exc
    if not spec.HasField("mlProgram"):
        raise BundleError(f"{package} holds no ML Program")
    return spec


def load_program(package: Path, spec: Any) -> Any:
    """The program of a package as coremltools' ``Program``, weights as they are stored.

    Raises:
        BundleError: operations that coremltools does not know, or weights that cannot be read.
        MissingExtraError: coremltools is not installed.
    """
    with quiet_coremltools():
        from coremltools.converters.mil.frontend.milproto.load import load

        try:
            return load(spec, spec.specificationVersion, str(package_parts(package)[1]))
        except DAMAGE as exc:
            raise BundleError(f"{package}: its program cannot be read: {exc!r}") from exc


class MilProgram:
    """A saved ``.mlpackage`` whose functions can be called.

    Raises:
        BundleError: no package, damaged, or an operation that this evaluator does not know.
        MissingExtraError: coremltools is not installed.
    """

    def __init__(self, package: Path) -> None:
        self.package = package
        self._functions = dict(load_program(package, read_spec(package)).functions)
        self._prepared: dict[str, _Prepared] = {}
        for name, function in self._functions.items():
            for op in function.operations:
                if not (op.op_type in OPERATORS or _is_constant(op)):
                    raise BundleError(f"{package}: {name} has the unknown operation {op.op_type}")

    @property
    def functions(self) -> tuple[str, ...]:
        """The names of the functions; that of a package with a single one is ``main``."""
        return tuple(self._functions)

    @torch.inference_mode()
    def run(self, function: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Evaluate one function; inputs are cast to what it takes.

        Raises:
            KeyError: no function, or no input, of this name.
            BundleError: a use of an operation that this evaluator does not know, or shapes that do not fit.
        """
        body = self._functions[function]
        if function not in self._prepared:
            self._prepared[function] = _prepare(body)
        prepared = self._prepared[function]
        values = dict(prepared.constants)
        for name, given in body.inputs.items():
            values[name] = _rounded(self._input(name, inputs[name], given), given)
        for op, expired in prepared.steps:
            arguments = {name: _argument(given, values) for name, given in op.inputs.items()}
            try:
                results = OPERATORS[op.op_type](**arguments)
            except (NotImplementedError, RuntimeError) as exc:
                raise BundleError(
                    f"{self.package}: {op.op_type} {op.name} cannot be evaluated: {exc}"
                ) from exc
            results = results if isinstance(results, list) else [results]
            for output, result in zip(op.outputs, results, strict=True):
                if not _has_shape(result, output):
                    sizes = f"{tuple(result.shape)}, not {tuple(output.shape)}"
                    raise BundleError(f"{self.package}: {op.op_type} {op.name} gives {sizes}")
                values[output.name] = _rounded(result, output)
            for name in expired:
                del values[name]
        return {output.name: values[output.name].numpy() for output in body.outputs}

    def _input(self, name: str, array: Array, given: Any) -> Tensor:
        if not _has_shape(array, given):
            raise BundleError(f"{self.package}: {name} is {array.shape}, not {tuple(given.shape)}")
        return _tensor(array).to(DTYPES[_type(given)])


@dataclass(frozen=True)
class _Prepared:
    """Every constant that an operation reads, decompressed; operations, and what none reads after them."""

    constants: Mapping[str, Any]
    steps: Sequence[tuple[Any, Sequence[str]]]


def _prepare(body: Any) -> _Prepared:
    constants: dict[str, Any] = {}
    kept = {output.name for output in body.outputs}
    steps = []
    for op in reversed(body.operations):
        output = op.outputs[0]
        if not _is_constant(op):
            names = {given.name for given in op.get_flattened_inputs() if not _is_constant(given.op)}
            names |= {output.name for output in op.outputs}
            steps.append((op, sorted(names - kept)))
            kept |= names
        elif all(_is_constant(reader) for reader in output.child_ops):
            continue  # a part of a stored weight
        elif op.op_type == "const":
            constants[output.name] = output.val if isinstance(output.val, str) else _tensor(output.val)
        else:
            constants[output.name] = _rounded(_tensor(op.materialized_val_inference()), output)
    return _Prepared(constants, steps[::-1])


def _is_constant(op: Any) -> bool:
    return op is not None and (op.op_type == "const" or op.op_type.startswith("constexpr_"))


def _argument(given: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(given, Sequence):
        return [values[item.name] for item in given]
    return values[given.name]


def _tensor(array: Any) -> Tensor:
    whole = np.asarray(array)
    if whole.dtype == np.float16:
        whole = whole.astype(np.float32)
    elif whole.dtype in (np.uint16, np.uint32):
        whole = whole.astype(np.int32)
    return torch.from_numpy(np.array(whole, order="C"))


def _type(variable: Any) -> str:
    from coremltools.converters.mil.mil import types

    name: str = types.builtin_to_string(variable.dtype)
    return name


def _has_shape(value: Tensor | Array, variable: Any) -> bool:
    """Whether a value has the sizes of a variable; those that vary are symbols there."""
    sizes = zip(value.shape, variable.shape, strict=False)
    return len(value.shape) == len(variable.shape) and all(
        not isinstance(wanted, int | np.integer) or wanted == size for size, wanted in sizes
    )


def _rounded(value: Tensor, variable: Any) -> Tensor:
    """A result as the program's type holds it."""
    if _type(variable) == "fp16":
        return value.half().float()
    return value
