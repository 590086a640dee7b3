"""What published documents say of the operators that an accelerator takes: one file a pair, with holes."""

from __future__ import annotations

import importlib.resources
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mobile_multimodal.errors import UsageError

__all__ = [
    "FALLS_BACK",
    "HARDWARE",
    "ON_THE_ACCELERATOR",
    "PLACES",
    "UNKNOWN",
    "HardwareTable",
    "Row",
    "Source",
    "load_table",
    "table_pairs",
]

ON_THE_ACCELERATOR = "on the accelerator"
FALLS_BACK = "falls back"
UNKNOWN = "unknown"
PLACES = (ON_THE_ACCELERATOR, FALLS_BACK, UNKNOWN)
"""Where an operator may be predicted to run."""

HARDWARE = ("hexagon", "ane", "nnapi", "gpu", "cpu")
"""The hardware that a table may be about."""

_BROADCASTS = ("", "gpu delegate")


@dataclass(frozen=True)
class Source:
    """A published document: title, address, and the day on which it was ``published`` or ``read``."""

    title: str
    address: str
    date: str
    dated: str

    def __post_init__(self) -> None:
        if self.dated not in ("published", "read"):
            raise ValueError(f"{self.dated!r} is neither 'published' nor 'read'")


@dataclass(frozen=True)
class Row:
    """Operators that a document treats alike.

    They are at ``placed`` where every condition holds, else at ``otherwise``. ``inputs`` holds the dtypes
    that the input at each position may have, an empty list for any; ``outputs`` those of every output.
    Ranks are of activations, read or written. ``constant`` names the positions of inputs that must be
    constants, ``activations`` how many inputs may be activations, ``input_count`` how many there may be.
    ``broadcast`` names a rule of :mod:`exporters.placement.predict`.

    Raises:
        ValueError: a word that is not known.
    """

    ops: tuple[str, ...]
    placed: str = ON_THE_ACCELERATOR
    otherwise: str = FALLS_BACK
    note: str = ""
    inputs: tuple[tuple[str, ...], ...] = ()
    outputs: tuple[str, ...] = ()
    min_rank: int | None = None
    max_rank: int | None = None
    constant: tuple[int, ...] = ()
    activations: tuple[int, ...] = ()
    input_count: tuple[int, ...] = ()
    max_version: int | None = None
    broadcast: str = ""

    def __post_init__(self) -> None:
        for place in (self.placed, self.otherwise):
            if place not in PLACES:
                raise ValueError(f"{place!r} is none of {', '.join(PLACES)}")
        if self.broadcast not in _BROADCASTS:
            raise ValueError(f"no rule for broadcasting is called {self.broadcast!r}")


@dataclass(frozen=True)
class HardwareTable:
    """What is known of one runtime on one kind of hardware.

    ``assumes`` says of which versions and devices the rows speak. An operator in no row is ``unlisted``.
    ``fixed_sizes`` says that no size may vary; ``max_rank`` holds for every row.

    Raises:
        ValueError: an operator in two rows, no source, or a word that is not known.
    """

    runtime: str
    hardware: str
    accelerator: str
    assumes: str
    unlisted: str
    sources: tuple[Source, ...]
    rows: tuple[Row, ...]
    fixed_sizes: bool = False
    max_rank: int | None = None

    def __post_init__(self) -> None:
        if self.hardware not in HARDWARE or self.unlisted not in PLACES:
            raise ValueError(f"{self.hardware!r} or {self.unlisted!r} is not known")
        listed = [op for row in self.rows for op in row.ops]
        twice = sorted({op for op in listed if listed.count(op) > 1})
        if twice or not self.sources:
            raise ValueError(f"no source, or operators in two rows: {', '.join(twice)}")

    def row(self, op: str) -> Row | None:
        """The row of an operator type; None where there is none."""
        return next((row for row in self.rows if op in row.ops), None)

    @classmethod
    def from_toml(cls, text: str) -> HardwareTable:
        """Read a table; an unknown key is a ``TypeError``."""
        fields = tomllib.loads(text)
        sources = tuple(Source(**row) for row in fields.pop("sources"))
        rows = tuple(Row(**_frozen(row)) for row in fields.pop("rows"))
        return cls(sources=sources, rows=rows, **fields)


def table_pairs() -> tuple[tuple[str, str], ...]:
    """The (runtime, hardware) pairs that there is a table for."""
    names = [file.name.removesuffix(".toml") for file in _tables().iterdir() if file.name.endswith(".toml")]
    return tuple(sorted((name.partition("_")[0], name.partition("_")[2]) for name in names))


def load_table(runtime: str, hardware: str) -> HardwareTable:
    """The table of a pair.

    Raises:
        UsageError: unknown hardware, or a pair that nothing was published of; both list what there is.
    """
    if hardware not in HARDWARE:
        raise UsageError(f"unknown hardware {hardware!r}", remedy=f"one of {', '.join(HARDWARE)}")
    pairs = table_pairs()
    if (runtime, hardware) not in pairs:
        known = ", ".join(f"{known_runtime} on {name}" for known_runtime, name in pairs)
        raise UsageError(f"no table says what {runtime} runs on {hardware}", remedy=f"there are {known}")
    return HardwareTable.from_toml((_tables() / f"{runtime}_{hardware}.toml").read_text(encoding="utf-8"))


def _tables() -> Any:
    return importlib.resources.files("exporters.placement") / "tables"


def _frozen(row: Mapping[str, Any]) -> dict[str, Any]:
    """Lists, and lists in lists, as tuples."""
    return {
        key: tuple(tuple(item) if isinstance(item, list) else item for item in value)
        if isinstance(value, list)
        else value
        for key, value in row.items()
    }
