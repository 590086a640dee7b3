"""Percentiles of latencies with intervals, refused where the samples are too few to state them."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from mobile_multimodal.errors import InconclusiveError

__all__ = [
    "INTERVAL_LEVEL",
    "MINIMUM_SAMPLES",
    "STATED_CONFIDENCE",
    "LatencyStats",
    "PercentileEstimate",
    "interval_ranks",
    "minimum_samples",
]

STATED_CONFIDENCE = 0.99
"""How sure it must be that more than one sample lies beyond a percentile before it is stated."""
INTERVAL_LEVEL = 0.95
"""The share of intervals that hold the true percentile, or more."""


@functools.cache
def minimum_samples(q: int) -> int:
    """Fewest samples that state the ``q``-th percentile: 64 for p90, 130 for p95, 662 for p99.

    The rule is that of MLPerf's early stopping: with so many independent samples, no more than one of
    them beyond the percentile has a chance of 1 % or less. For percentiles below the median the other
    end counts.

    Raises:
        ValueError: ``q`` outside 1..99.
    """
    if not 1 <= q <= 99:
        raise ValueError(f"percentile {q} is outside 1..99")
    beyond = min(q, 100 - q) / 100.0
    count = 2
    while (1.0 - beyond) ** (count - 1) * (1.0 - beyond + count * beyond) > 1.0 - STATED_CONFIDENCE:
        count += 1
    return count


MINIMUM_SAMPLES: Mapping[int, int] = MappingProxyType({q: minimum_samples(q) for q in (50, 90, 95, 99)})
"""Percentile → the fewest samples that state it, for those that reports print."""


@functools.lru_cache(maxsize=256)
def interval_ranks(count: int, q: int, level: float = INTERVAL_LEVEL) -> tuple[int, int]:
    """Ranks, from 1, of the two order statistics that hold the ``q``-th percentile between them.

    Distribution-free: the number of samples below the true percentile is binomial, whatever the
    distribution (David and Nagaraja, Order Statistics, section 7.1). Each end misses with a chance of
    at most (1 - ``level``) / 2.

    Raises:
        InconclusiveError: so few samples that their smallest and largest do not hold it surely enough.
    """
    share, tail = q / 100.0, (1.0 - level) / 2.0
    numbers = range(count + 1)
    logs = [
        math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1)
        + k * math.log(share) + (count - k) * math.log1p(-share)
        for k in numbers
    ]  # fmt: skip
    cumulative = np.cumsum(np.exp(logs))  # chance of at most k samples below the percentile
    low = int(np.searchsorted(cumulative, tail, side="right"))
    high = int(np.searchsorted(cumulative, 1.0 - tail, side="left")) + 1
    if low < 1 or high > count:
        raise InconclusiveError(f"{count} samples give no {100 * level:.0f} % interval of p{q}")
    return low, high


@dataclass(frozen=True)
class PercentileEstimate:
    """A percentile in milliseconds and its distribution-free 95 % interval, all of them samples."""

    value_ms: float
    low_ms: float
    high_ms: float


@dataclass(frozen=True)
class LatencyStats:
    """Latencies in milliseconds, in the order in which they were taken.

    Raises:
        ValueError: no samples, or one that is not finite or is negative.
    """

    samples_ms: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.samples_ms:
            raise ValueError("latencies need at least one sample")
        wrong = [x for x in self.samples_ms if not math.isfinite(x) or x < 0]
        if wrong:
            raise ValueError(f"{wrong[0]} is not a latency in milliseconds")

    @property
    def count(self) -> int:
        """How many samples there are."""
        return len(self.samples_ms)

    @property
    def mean_ms(self) -> float:
        """The arithmetic mean; says little where a few samples are slow."""
        return math.fsum(self.samples_ms) / self.count

    def percentile(self, q: int) -> PercentileEstimate:
        """The ``q``-th percentile by nearest rank, with its interval.

        Raises:
            InconclusiveError: fewer samples than :func:`minimum_samples` asks for.
            ValueError: ``q`` outside 1..99.
        """
        needed = minimum_samples(q)
        if self.count < needed:
            raise InconclusiveError(
                f"p{q} needs {needed} samples, there {'is' if self.count == 1 else 'are'} {self.count}"
            )
        ordered = self._ordered
        low, high = interval_ranks(self.count, q)
        rank = -(-q * self.count // 100)
        return PercentileEstimate(ordered[rank - 1], ordered[low - 1], ordered[high - 1])

    @functools.cached_property
    def _ordered(self) -> tuple[float, ...]:
        return tuple(sorted(self.samples_ms))
