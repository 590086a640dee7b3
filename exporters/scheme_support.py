"""What each runtime does with each way in which a bundle stores weights: a table with holes.

A cell is ``tested here`` when a test loads such a weight into the runtime and looks at what became of it
(``tests/exporters/test_scheme_support.py``). What stands in no cell is not known, and said to be.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from mobile_multimodal.quantized_tensor import QuantizationScheme

__all__ = [
    "BEHAVIOURS",
    "DECOMPRESSED",
    "MEANINGS",
    "ROUNDS_INPUTS",
    "RUNS_AT_2_BITS",
    "RUNS_AT_4_BITS",
    "RUNTIMES",
    "SCHEME_SUPPORT",
    "STAYS_FLOAT16",
    "TESTED",
    "TO_FLOAT32_AT_LOAD",
    "UNKNOWN",
    "UNPACKS_AT_LOAD",
    "UNPACKS_AT_LOOKUP",
    "UNTESTED",
    "WEIGHTS",
    "SchemeSupport",
    "StoredAs",
    "support_of",
]

RUNTIMES = ("torch", "onnxruntime", "litert", "coreml")

UNPACKS_AT_LOAD = "unpacks to float at load"
UNPACKS_AT_LOOKUP = "unpacks rows looked up"
ROUNDS_INPUTS = "unpacks at load, rounds inputs"
RUNS_AT_2_BITS = "runs at 2 bits"
RUNS_AT_4_BITS = "runs at 4 bits"
TO_FLOAT32_AT_LOAD = "becomes float32 at load"
STAYS_FLOAT16 = "stays float16"
DECOMPRESSED = "decompressed by Core ML"
UNKNOWN = "not known"
BEHAVIOURS = (
    UNPACKS_AT_LOAD,
    UNPACKS_AT_LOOKUP,
    ROUNDS_INPUTS,
    RUNS_AT_2_BITS,
    RUNS_AT_4_BITS,
    TO_FLOAT32_AT_LOAD,
    STAYS_FLOAT16,
    DECOMPRESSED,
    UNKNOWN,
)
"""What may become of a weight."""

TESTED = "tested here"
UNTESTED = "not checked here"

WEIGHTS = ("every", "matrix", "other", "product", "lookup", "rest")
"""The kinds of weight that a cell may speak of."""

MEANINGS = {
    "matrix": "what activations are multiplied by in a MatMul, both sizes multiples of 128",
    "other": "every other weight: matrices of other sizes or in a Gemm, convolutions, embeddings",
    "product": "matrices and pointwise convolutions, their inputs a multiple of 4, or of 32 with 4 bits",
    "lookup": "embeddings, their width a multiple of 32",
    "rest": "every other weight: other convolutions, pointwise ones with a stride, embeddings unless named",
    UNPACKS_AT_LOAD: "packed in the file alone; held and computed in float32",
    UNPACKS_AT_LOOKUP: "packed in memory too; a row is unpacked, in float32, when it is looked up",
    ROUNDS_INPUTS: "packed in the file alone; inputs are rounded to 8 bits, then computed in float32",
    RUNS_AT_2_BITS: "packed in memory too and multiplied so, the activations rounded to 8 bits",
    RUNS_AT_4_BITS: "packed in memory too and multiplied so, the activations rounded to 8 bits",
    DECOMPRESSED: "packed in the file, whole numbers kept; when Core ML unpacks them is up to the device",
}
"""Words of a cell that need more words."""


@dataclass(frozen=True)
class StoredAs:
    """How a bundle stores a weight: by its ``scheme``, None for float16.

    ``rounds_inputs`` says that the bundle also holds a grid of 8 bits for what the weight's layer reads.
    """

    scheme: QuantizationScheme | None = None
    rounds_inputs: bool = False

    @property
    def name(self) -> str:
        """In words: ``float16``, ``8 bits per channel, inputs too``, ``4 bits in groups of 32``."""
        if self.scheme is None:
            return "float16"
        group = self.scheme.group_size
        shared = "per channel" if group is None else f"in groups of {group}"
        return f"{self.scheme.bits} bits {shared}{', inputs too' if self.rounds_inputs else ''}"


@dataclass(frozen=True)
class SchemeSupport:
    """What one runtime does with weights that are stored in one way.

    ``weights`` is one of ``WEIGHTS``, ``runtime`` of ``RUNTIMES``, ``behaviour`` of ``BEHAVIOURS``, and
    ``checked`` either ``TESTED`` or ``UNTESTED``.

    Raises:
        ValueError: a word that is none of those.
    """

    stored_as: StoredAs
    weights: str
    runtime: str
    behaviour: str
    checked: str

    def __post_init__(self) -> None:
        for value, known in (
            (self.weights, WEIGHTS),
            (self.runtime, RUNTIMES),
            (self.behaviour, BEHAVIOURS),
            (self.checked, (TESTED, UNTESTED)),
        ):
            if value not in known:
                raise ValueError(f"{value!r} is none of {', '.join(known)}")

    def to_json(self) -> dict[str, Any]:
        """The cell as plain values; float16 has neither granularity nor group size."""
        scheme = self.stored_as.scheme
        return {
            "scheme": self.stored_as.name,
            "bits": 16 if scheme is None else scheme.bits,
            "granularity": None if scheme is None else scheme.granularity,
            "group_size": None if scheme is None else scheme.group_size,
            "rounds_inputs": self.stored_as.rounds_inputs,
            "weights": self.weights,
            "runtime": self.runtime,
            "behaviour": self.behaviour,
            "checked": self.checked,
        }


FLOAT16 = StoredAs()
INT8 = StoredAs(QuantizationScheme(8))
STATIC_INT8 = StoredAs(QuantizationScheme(8), rounds_inputs=True)
INT4_G32 = StoredAs(QuantizationScheme(4, "per_group", 32))
INT4 = StoredAs(QuantizationScheme(4))
INT2 = StoredAs(QuantizationScheme(2))

SCHEME_SUPPORT = (
    SchemeSupport(FLOAT16, "every", "torch", TO_FLOAT32_AT_LOAD, TESTED),
    SchemeSupport(FLOAT16, "every", "onnxruntime", TO_FLOAT32_AT_LOAD, TESTED),
    SchemeSupport(FLOAT16, "every", "litert", TO_FLOAT32_AT_LOAD, TESTED),
    SchemeSupport(FLOAT16, "every", "coreml", STAYS_FLOAT16, UNTESTED),
    SchemeSupport(INT8, "every", "torch", UNPACKS_AT_LOAD, TESTED),
    SchemeSupport(INT8, "every", "onnxruntime", UNPACKS_AT_LOAD, TESTED),
    SchemeSupport(INT8, "every", "litert", UNPACKS_AT_LOAD, TESTED),
    SchemeSupport(INT8, "every", "coreml", DECOMPRESSED, UNTESTED),
    SchemeSupport(STATIC_INT8, "every", "torch", ROUNDS_INPUTS, TESTED),
    SchemeSupport(STATIC_INT8, "every", "onnxruntime", ROUNDS_INPUTS, TESTED),
    SchemeSupport(STATIC_INT8, "every", "litert", ROUNDS_INPUTS, TESTED),
    SchemeSupport(STATIC_INT8, "every", "coreml", ROUNDS_INPUTS, UNTESTED),
    SchemeSupport(INT4_G32, "every", "torch", UNPACKS_AT_LOAD, TESTED),
    SchemeSupport(INT4_G32, "every", "onnxruntime", UNPACKS_AT_LOAD, TESTED),
    SchemeSupport(INT4_G32, "product", "litert", RUNS_AT_4_BITS, TESTED),
    SchemeSupport(INT4_G32, "lookup", "litert", UNPACKS_AT_LOOKUP, TESTED),
    SchemeSupport(INT4_G32, "rest", "litert", UNPACKS_AT_LOAD, TESTED),
    SchemeSupport(INT4_G32, "every", "coreml", DECOMPRESSED, UNTESTED),
    SchemeSupport(INT4, "every", "torch", UNPACKS_AT_LOAD, TESTED),
    SchemeSupport(INT4, "every", "onnxruntime", UNPACKS_AT_LOAD, TESTED),
    SchemeSupport(INT4, "product", "litert", RUNS_AT_4_BITS, TESTED),
    SchemeSupport(INT4, "lookup", "litert", UNPACKS_AT_LOOKUP, TESTED),
    SchemeSupport(INT4, "rest", "litert", UNPACKS_AT_LOAD, TESTED),
    SchemeSupport(INT4, "every", "coreml", DECOMPRESSED, UNTESTED),
    SchemeSupport(INT2, "matrix", "torch", UNPACKS_AT_LOAD, TESTED),
    SchemeSupport(INT2, "matrix", "onnxruntime", RUNS_AT_2_BITS, TESTED),
    SchemeSupport(INT2, "product", "litert", RUNS_AT_2_BITS, TESTED),
    SchemeSupport(INT2, "other", "torch", UNPACKS_AT_LOAD, TESTED),
    SchemeSupport(INT2, "other", "onnxruntime", UNPACKS_AT_LOAD, TESTED),
    SchemeSupport(INT2, "rest", "litert", UNPACKS_AT_LOAD, TESTED),
    SchemeSupport(INT2, "every", "coreml", DECOMPRESSED, UNTESTED),
)
"""Every cell that is known; what the exporters write and the backends set decides what stands in it."""


def support_of(stored: Collection[StoredAs]) -> Sequence[SchemeSupport]:
    """The cells of weights stored in these ways, in the table's order.

    A way that is in no cell is ``UNKNOWN`` to every runtime.
    """
    known = {row.stored_as for row in SCHEME_SUPPORT}
    rows = [row for row in SCHEME_SUPPORT if row.stored_as in stored]
    for way in sorted(set(stored) - known, key=str):
        rows += [SchemeSupport(way, "every", runtime, UNKNOWN, UNTESTED) for runtime in RUNTIMES]
    return rows
