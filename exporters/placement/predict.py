"""Operators and a hardware table → where each is predicted to run, and what crosses the borders."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from exporters.placement.graph_reader import Graph, Operator
from exporters.placement.hardware_tables import (
    FALLS_BACK,
    ON_THE_ACCELERATOR,
    UNKNOWN,
    HardwareTable,
    Row,
)

__all__ = ["FOLDED", "Placement", "Prediction", "Reason", "place", "predict"]

FOLDED = "constant"
"""Where an operator stands that works on constants alone: it is computed once, and ends no partition."""

_UNSAID = "the file does not say"


@dataclass(frozen=True)
class Placement:
    """One operator, ``where`` it is predicted to run, and why."""

    operator: Operator
    where: str
    reason: str


@dataclass(frozen=True)
class Reason:
    """Why ``count`` operators of one type are not known to run on the accelerator."""

    op: str
    where: str
    reason: str
    count: int


@dataclass(frozen=True)
class Prediction:
    """What a table says of a graph; nothing of it was run."""

    graph: Graph
    placements: tuple[Placement, ...]

    def count(self, where: str) -> int:
        """How many operators are there."""
        return sum(placement.where == where for placement in self.placements)

    @property
    def partitions(self) -> int:
        """Maximal runs of consecutive operators that are placed alike; constants end no run."""
        return sum(1 for _ in itertools.groupby(placement.where for placement in self._running))

    @property
    def crossing_bytes(self) -> int:
        """Bytes of activations that one place computes and another reads, in one inference.

        A tensor counts once for every place that it is brought to. Inputs and outputs of the graph do not
        count: they are brought to the accelerator and back whatever runs there. ``unknown`` is a place of
        its own here, so with unknown operators this is the most that it can be.
        """
        made_at = {
            tensor.name: placement.where
            for placement in self._running
            for tensor in placement.operator.outputs
        }
        crossings = {
            (tensor.name, placement.where): tensor.bytes
            for placement in self._running
            for tensor in placement.operator.activations
            if made_at.get(tensor.name, placement.where) != placement.where
        }
        return sum(crossings.values())

    @property
    def sizes_vary(self) -> bool:
        """Whether activations have sizes that vary, which ``crossing_bytes`` counts as 1."""
        return any(tensor.sizes_vary for step in self._running for tensor in step.operator.outputs)

    @property
    def reasons(self) -> Sequence[Reason]:
        """The operator types that fall back or are unknown, why, and how often; the most frequent first."""
        counted = Counter(
            (placement.operator.op, placement.where, placement.reason)
            for placement in self._running
            if placement.where != ON_THE_ACCELERATOR
        )
        return [Reason(*key, count) for key, count in counted.most_common()]

    @property
    def _running(self) -> list[Placement]:
        return [placement for placement in self.placements if placement.where != FOLDED]


def predict(graph: Graph, table: HardwareTable) -> Prediction:
    """Where the table places each operator of a graph, in execution order."""
    return Prediction(graph, tuple(place(operator, table) for operator in graph.operators))


def place(operator: Operator, table: HardwareTable) -> Placement:
    """Where the table places one operator."""
    if operator.folded:
        return Placement(operator, FOLDED, "works on constants alone")
    row = table.row(operator.op)
    if row is None:
        return Placement(operator, table.unlisted, "not in the list")
    broken, misfit = _broken(operator, row), _misfit(operator, table)
    if row.placed == FALLS_BACK:
        return Placement(operator, FALLS_BACK, row.note or "listed as such")
    # What no row can make good comes before a row that is not sure.
    if misfit and (UNKNOWN in (row.placed, row.otherwise) or not broken):
        return _not_there(operator, FALLS_BACK, misfit)
    if row.placed == UNKNOWN:
        return Placement(operator, UNKNOWN, row.note or "listed as such")
    if broken:
        return _not_there(operator, row.otherwise, broken)
    return Placement(operator, ON_THE_ACCELERATOR, row.note or "in the list")


def _not_there(operator: Operator, where: str, reason: str) -> Placement:
    # What the file does not say can neither hold nor fail.
    return Placement(operator, UNKNOWN if reason.startswith(_UNSAID) else where, reason)


def _broken(operator: Operator, row: Row) -> str | None:
    """The first condition of the row that the operator breaks, in words."""
    given = [tensor for tensor in operator.inputs if tensor is not None]
    for tensor, dtypes in zip(operator.inputs, row.inputs, strict=False):
        if tensor is not None and dtypes and tensor.dtype not in dtypes:
            return _wrong_dtype("reads", tensor.dtype, dtypes)
    for tensor in operator.outputs:
        if row.outputs and tensor.dtype not in row.outputs:
            return _wrong_dtype("writes", tensor.dtype, row.outputs)
    for position in row.constant:
        tensor = operator.inputs[position] if position < len(operator.inputs) else None
        if tensor is not None and not tensor.constant:
            return f"input {position} is no constant"
    if row.activations and len(operator.activations) not in row.activations:
        return f"{len(operator.activations)} inputs are activations, not {_or(row.activations)}"
    if row.input_count and len(given) not in row.input_count:
        return f"has {len(given)} inputs, not {_or(row.input_count)}"
    if row.max_version is not None and operator.version > row.max_version:
        return f"version {operator.version} of the operator, above {row.max_version}"
    if row.broadcast and not _gpu_delegate_broadcasts(operator):
        return "broadcasts inputs of different ranks, which not every build does"
    return _wrong_rank(operator, row.min_rank, row.max_rank)


def _misfit(operator: Operator, table: HardwareTable) -> str | None:
    """What the table asks of every operator and this one does not fulfil, in words."""
    if table.fixed_sizes:
        for tensor in (*operator.activations, *operator.outputs):
            if tensor.shape is None:
                return f"{_UNSAID} its sizes"
            if tensor.sizes_vary:
                return "sizes vary, and only fixed ones are taken"
    return _wrong_rank(operator, None, table.max_rank)


def _wrong_rank(operator: Operator, lowest: int | None, highest: int | None) -> str | None:
    if lowest is None and highest is None:
        return None
    for tensor in (*operator.activations, *operator.outputs):
        if tensor.shape is None:
            return f"{_UNSAID} its rank"
        rank = len(tensor.shape)
        if lowest is not None and rank < lowest:
            return f"rank {rank}, and at least {lowest} is taken"
        if highest is not None and rank > highest:
            return f"rank {rank}, and at most {highest} is taken"
    return None


def _gpu_delegate_broadcasts(operator: Operator) -> bool:
    """Whether the GPU delegate adds or multiplies inputs of these shapes (LiteRT, gpu_compatibility.cc)."""
    shapes = [tensor.shape or () for tensor in operator.inputs if tensor is not None]
    if len(shapes) != 2 or min(map(len, shapes)) <= 1 or len(shapes[0]) == len(shapes[1]):
        return True
    short, long = sorted(shapes, key=len)
    if len(long) != 4:
        return False
    if len(short) == 3:
        return long[0] == 1
    return (long[0] == 1 and short == (1, 1)) or (long[0], long[3]) == short


def _wrong_dtype(verb: str, dtype: str, taken: Sequence[str]) -> str:
    if dtype == "unknown":
        return f"{_UNSAID} its dtype"
    return f"{verb} {dtype}, not {_or(taken)}"


def _or(values: Sequence[object]) -> str:
    *most, last = map(str, values)
    return f"{', '.join(most)} or {last}" if most else last
