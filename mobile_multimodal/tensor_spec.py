"""One input or output of a component's graph: its name, shape, dtype and layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["DTYPES", "TensorSpec"]

DTYPES = ("uint8", "int32", "int64", "float16", "float32")


@dataclass(frozen=True)
class TensorSpec:
    """Name, shape, dtype and layout of one graph input or output.

    A size that may vary is written as its name (``"batch"``), a fixed one as an integer.
    ``layout`` names the axes by a letter each (``"BHWC"``), for people and for converters.

    Raises:
        ValueError: an empty name, an unknown dtype, a size below 1, or a layout of another rank.
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: str
    layout: str

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a tensor needs a name")
        if self.dtype not in DTYPES:
            raise ValueError(f"{self.name}: dtype {self.dtype!r} is none of {', '.join(DTYPES)}")
        if any(isinstance(size, int) and size < 1 for size in self.shape):
            raise ValueError(f"{self.name}: every size of {self.shape} must be at least 1")
        if len(self.layout) != len(self.shape):
            raise ValueError(f"{self.name}: layout {self.layout!r} does not fit shape {self.shape}")

    def to_json(self) -> dict[str, Any]:
        """The JSON form that bundle.json and artifact.json hold."""
        return {"name": self.name, "shape": list(self.shape), "dtype": self.dtype, "layout": self.layout}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> TensorSpec:
        """Read back what :meth:`to_json` wrote; an unknown key is a ``TypeError``."""
        fields = dict(row)
        return cls(shape=tuple(fields.pop("shape")), **fields)
