"""The scenarios of all cores: ``offline`` has every picture at once, ``server`` gets them as they come."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.benchmark_config import BenchmarkConfig
from benchmarks.evaluation_report import Progress
from benchmarks.latency_stats import MINIMUM_SAMPLES
from benchmarks.report import Measurement
from benchmarks.scenarios import Metrics
from benchmarks.workers import ServedBatch, Trial
from mobile_multimodal.errors import InconclusiveError

__all__ = ["ServerTrial", "TrialRunner", "highest_rate", "offline", "poisson_arrivals", "serve_at", "server"]

BOUND_PERCENTILE = 99
"""MLPerf's percentile for Server."""
CLOSE_ENOUGH = 1.05
"""The search ends when the rates that passed and failed are so near."""
MAX_TRIALS = 16


class TrialRunner(Protocol):
    """What serves trials; :class:`benchmarks.workers.WorkerPool` does."""

    @property
    def size(self) -> int:
        """How many queries are served at the same time."""
        ...

    def run(self, trial: Trial) -> list[ServedBatch]:
        """Serve a trial and return its batches in the order of their first queries."""
        ...


def poisson_arrivals(rate: float, count: int, seed: int) -> NDArray[np.float64]:
    """Arrivals of a Poisson process, in seconds: gaps are exponential with mean 1 / ``rate``.

    Raises:
        ValueError: a rate that is not above 0, or no arrivals.
    """
    if not rate > 0 or count < 1:
        raise ValueError(f"{count} arrivals at a rate of {rate} a second")
    return np.random.default_rng(seed).exponential(1.0 / rate, count).cumsum()


def offline(pool: TrialRunner, config: BenchmarkConfig) -> Metrics:
    """Caption ``num_runs`` batches as fast as all processes can.

    ``images_per_s`` and ``tokens_per_s`` are of all processes, over the time from the first batch's start
    to the last one's end; ``batch_ms`` is the time of one batch in one process.
    """
    trial = Trial(np.zeros(config.runs * config.batch), config.batch, config.max_secs)
    batches = pool.run(trial)
    if not batches:
        raise InconclusiveError("no batch was begun in time", remedy="raise --max-secs")
    seconds = max(batch.ended_s for batch in batches) - min(batch.started_s for batch in batches)
    images, tokens = sum(batch.count for batch in batches), sum(batch.tokens for batch in batches)
    where = f"{pool.size} processes, {config.threads} threads each, batches of {config.batch}"
    times = tuple(1000.0 * (batch.ended_s - batch.started_s) for batch in batches)
    return {
        "batch_ms": Measurement("batch_ms", "ms", times, note=where),
        "images_per_s": Measurement("images_per_s", "images/s", value=images / seconds, note=where),
        "tokens_per_s": Measurement("tokens_per_s", "tokens/s", value=tokens / seconds, note=where),
    }


@dataclass(frozen=True)
class ServerTrial:
    """One rate: what every served query took from its arrival on, and whether the bound was kept.

    ``kept`` is None where too few queries were served to state p99.
    """

    qps: float
    latencies_ms: tuple[float, ...]
    achieved_qps: float
    kept: bool | None


def serve_at(pool: TrialRunner, qps: float, config: BenchmarkConfig) -> ServerTrial:
    """Serve ``num_runs`` queries that arrive at this rate; given up once p99 cannot keep the bound."""
    bound = config.latency_bound_ms
    count = config.runs
    # Of ``count`` samples so many may be late, and the nearest rank of p99 is still in time.
    allowed = count - math.ceil(count * BOUND_PERCENTILE / 100)
    trial = Trial(poisson_arrivals(qps, count, config.seed), config.batch, config.max_secs, bound, allowed)
    batches = pool.run(trial)
    latencies = _latencies(batches, trial)
    late = sum(ms > bound for ms in latencies)
    kept = None
    if late > allowed:
        kept = False
    elif len(latencies) >= MINIMUM_SAMPLES[BOUND_PERCENTILE]:
        kept = late <= len(latencies) - math.ceil(len(latencies) * BOUND_PERCENTILE / 100)
    seconds = max((batch.ended_s for batch in batches), default=0.0)
    return ServerTrial(qps, latencies, len(latencies) / seconds if seconds else 0.0, kept)


def _latencies(batches: Sequence[ServedBatch], trial: Trial) -> tuple[float, ...]:
    return tuple(
        float(1000.0 * (batch.ended_s - trial.arrivals_s[index]))
        for batch in batches
        for index in range(batch.first, batch.first + batch.count)
    )


def server(pool: TrialRunner, config: BenchmarkConfig, progress: Progress | None = None) -> Metrics:
    """Serve Poisson arrivals: at ``qps`` where it is given, else at the highest rate that keeps the bound.

    ``latency_ms`` is from a query's arrival to its caption, waiting included, at that rate;
    ``achieved_qps`` is what was served a second; ``max_qps`` is the highest rate found.

    Raises:
        InconclusiveError: no rate keeps the bound, or too few queries fit into ``max_secs`` to tell.
    """
    if config.qps is not None:
        best = serve_at(pool, config.qps, config)
        if not best.latencies_ms:
            raise InconclusiveError("no query arrived in time", remedy="raise --qps or --max-secs")
    else:
        best = highest_rate(pool, config, progress)
    verdict = {True: "kept", False: "not kept", None: f"inconclusive: needs {MINIMUM_SAMPLES[99]}"}[best.kept]
    note = (
        f"{best.qps:.4g} arrivals/s, {pool.size} processes; p99 bound "
        f"{config.latency_bound_ms:g} ms: {verdict}"
    )
    metrics = {
        "latency_ms": Measurement("latency_ms", "ms", best.latencies_ms, note=note),
        "achieved_qps": Measurement("achieved_qps", "queries/s", value=best.achieved_qps),
    }
    if config.qps is None:
        bound = f"p99 of at most {config.latency_bound_ms:g} ms, found to {100 * (CLOSE_ENOUGH - 1):.0f} %"
        metrics["max_qps"] = Measurement("max_qps", "queries/s", value=best.qps, note=bound)
    return metrics


def highest_rate(pool: TrialRunner, config: BenchmarkConfig, progress: Progress | None = None) -> ServerTrial:
    """Double the rate until the bound is broken, or halve it until it is kept, then bisect.

    Every trial has the same gaps, scaled, so that rates are compared and not lucky arrivals.

    Raises:
        InconclusiveError: no rate keeps the bound, or too few queries fit into ``max_secs`` to tell.
    """
    needed = MINIMUM_SAMPLES[BOUND_PERCENTILE]
    if config.runs < needed:
        raise InconclusiveError(
            f"p{BOUND_PERCENTILE} needs {needed} queries, there are {config.runs}",
            remedy=f"--num-runs {needed}, or give --qps",
        )
    passed: ServerTrial | None = None
    failed: float | None = None
    rate = _first_rate(pool, config)
    for number in range(MAX_TRIALS):
        if progress is not None:
            progress(number, MAX_TRIALS)
        trial = serve_at(pool, rate, config)
        if trial.kept is None:
            raise InconclusiveError(
                f"at {rate:.3g} arrivals a second only {len(trial.latencies_ms)} of {needed} queries fit "
                f"into {config.max_secs:g} s",
                remedy="raise --max-secs",
            )
        if trial.kept:
            passed = trial
        else:
            failed = rate
        if passed is not None and failed is not None and failed <= CLOSE_ENOUGH * passed.qps:
            break
        if passed is None:
            rate = rate / 2.0
        elif failed is None:
            rate = rate * 2.0
        else:
            rate = math.sqrt(passed.qps * failed)
    if passed is None:
        raise InconclusiveError(
            f"no rate keeps p{BOUND_PERCENTILE} within {config.latency_bound_ms:g} ms",
            remedy="raise --max-latency-ms",
        )
    return passed


def _first_rate(pool: TrialRunner, config: BenchmarkConfig) -> float:
    """Half of what the processes caption when every query is there at once."""
    count = 4 * pool.size * config.batch
    batches = pool.run(Trial(np.zeros(count), config.batch, config.max_secs))
    seconds = max(batch.ended_s for batch in batches)
    return sum(batch.count for batch in batches) / seconds / 2.0
