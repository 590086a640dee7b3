"""Arrivals at their rate, a simulated server whose best rate is known, and real processes."""

from __future__ import annotations

import heapq
import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks.benchmark_config import BenchmarkConfig
from benchmarks.environment import usable_cores
from benchmarks.latency_stats import LatencyStats
from benchmarks.run_benchmark import model_references, run_benchmark
from benchmarks.throughput import highest_rate, offline, poisson_arrivals, serve_at, server
from benchmarks.workers import ServedBatch, Trial, WorkerPool, parted_cores
from mobile_multimodal.errors import InconclusiveError, UsageError


class Simulated:
    """Servers that take a known time for every query, without a clock: a queue worked out on paper."""

    def __init__(self, size: int, service_s: float) -> None:
        self.size, self.service_s = size, service_s
        self.rates: list[float] = []

    def run(self, trial: Trial) -> list[ServedBatch]:
        free = [0.0] * self.size
        late, batches = 0, []
        for index, arrival in enumerate(trial.arrivals_s.tolist()):
            start = max(heapq.heappop(free), arrival)
            if start > trial.max_secs or late > trial.allowed_late:
                break
            end = start + self.service_s
            heapq.heappush(free, end)
            late += 1000 * (end - arrival) > trial.bound_ms
            batches.append(ServedBatch(index, 1, start, end, tokens=10))
        if trial.arrivals_s[-1] > 0:
            self.rates.append(len(trial.arrivals_s) / trial.arrivals_s[-1])
        return batches


@pytest.mark.parametrize("rate", [0.5, 20.0, 400.0])
def test_arrivals_come_at_their_rate_and_without_memory(rate: float) -> None:
    arrivals = poisson_arrivals(rate, 20_000, seed=3)
    gaps = np.diff(arrivals, prepend=0.0)
    assert (gaps > 0).all()
    # Mean and deviation of exponential gaps are both 1 / rate; three standard errors are 2.1 and 4.2 %.
    assert gaps.mean() == pytest.approx(1 / rate, rel=0.022)
    assert gaps.std() == pytest.approx(1 / rate, rel=0.045)
    assert (gaps > 1 / rate).mean() == pytest.approx(math.exp(-1), abs=0.011)
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 0.022
    # Counts of a Poisson process: their variance is their mean.
    counts = np.bincount((arrivals * rate / 10).astype(np.int64))[:-1]
    assert counts.mean() == pytest.approx(10, rel=0.03)
    assert counts.var() == pytest.approx(10, rel=0.12)


def test_arrivals_are_seeded_and_scale_with_the_rate() -> None:
    assert np.array_equal(poisson_arrivals(5, 100, 1), poisson_arrivals(5, 100, 1))
    assert not np.array_equal(poisson_arrivals(5, 100, 1), poisson_arrivals(5, 100, 2))
    assert np.allclose(poisson_arrivals(10, 100, 1), poisson_arrivals(5, 100, 1) / 2)
    with pytest.raises(ValueError, match="at a rate of 0"):
        poisson_arrivals(0, 10, 1)


@pytest.mark.parametrize(
    ("size", "service_s", "bound_ms"), [(1, 0.01, 50.0), (2, 0.02, 60.0), (2, 0.1, 1000)]
)
def test_the_highest_rate_is_found(size: int, service_s: float, bound_ms: float) -> None:
    config = BenchmarkConfig(scenario="server", max_latency_ms=bound_ms, max_secs=1e6)
    servers = Simulated(size, service_s)
    best = highest_rate(servers, config)
    assert best.kept
    assert LatencyStats(best.latencies_ms).percentile(99).value_ms <= bound_ms
    assert serve_at(servers, 1.06 * best.qps, config).kept is False
    assert 0.3 < best.qps * service_s / size < 1.1  # a share of what the servers could do without waiting
    assert len(servers.rates) <= 17


def test_a_bound_below_the_service_time_is_never_kept() -> None:
    config = BenchmarkConfig(scenario="server", max_latency_ms=5, max_secs=1e6)
    with pytest.raises(InconclusiveError, match="no rate keeps p99 within 5 ms"):
        highest_rate(Simulated(2, 0.01), config)


def test_too_few_queries_tell_nothing() -> None:
    few = BenchmarkConfig(scenario="server", num_runs=100)
    with pytest.raises(InconclusiveError, match="p99 needs 662 queries, there are 100"):
        highest_rate(Simulated(1, 0.01), few)
    short = BenchmarkConfig(scenario="server", max_secs=1, max_latency_ms=1000)
    with pytest.raises(InconclusiveError, match="of 662 queries fit into 1 s"):
        highest_rate(Simulated(1, 0.01), short)
    given = BenchmarkConfig(scenario="server", num_runs=100, qps=10)
    metrics = server(Simulated(1, 0.01), given)
    assert metrics["latency_ms"].note == (
        "10 arrivals/s, 1 processes; p99 bound 200 ms: inconclusive: needs 662"
    )
    assert "max_qps" not in metrics


def test_latency_counts_waiting() -> None:
    """One server, 0.1 s a query, and arrivals far quicker: the n-th waits for all before it."""
    config = BenchmarkConfig(scenario="server", num_runs=20, qps=1e6, max_latency_ms=1e9)
    trial = serve_at(Simulated(1, 0.1), 1e6, config)
    assert np.allclose(trial.latencies_ms, 100.0 * np.arange(1, 21), atol=0.1)
    assert trial.achieved_qps == pytest.approx(10, rel=1e-3)


def test_offline_counts_images_over_the_whole_time() -> None:
    config = BenchmarkConfig(scenario="offline", num_runs=30, batch_size=1)
    metrics = offline(Simulated(3, 0.1), config)
    assert metrics["images_per_s"].center == pytest.approx(30.0)
    assert metrics["tokens_per_s"].center == pytest.approx(300.0)
    assert metrics["batch_ms"].stats.percentile(50).value_ms == pytest.approx(100.0)


def test_every_core_is_used_once() -> None:
    cores = usable_cores()
    assert sorted(core for group in parted_cores(1) for core in group) == list(cores)
    assert parted_cores(len(cores)) == [cores]
    assert parted_cores(len(cores) + 5) == [cores]


def test_real_processes_serve_every_query_once_and_in_order(
    tiny_artifacts: dict[str, Path], tiny_pictures: tuple[Path, ...]
) -> None:
    model, photo = str(tiny_artifacts["float32"]), tiny_pictures[0].read_bytes()
    with WorkerPool(model, "onnxruntime", 1, photo, warmup=1) as pool:
        assert pool.size == len(usable_cores())
        batches = pool.run(Trial(np.zeros(50), 4, max_secs=60))
        assert [batch.first for batch in batches] == list(np.cumsum([0] + [b.count for b in batches[:-1]]))
        assert sum(batch.count for batch in batches) == 50
        assert max(batch.count for batch in batches) == 4
        spaced = Trial(np.arange(10) * 0.02, 1, max_secs=60)
        batches = pool.run(spaced)
        assert [batch.first for batch in batches] == list(range(10))
        # None begins before it has arrived, and each ends after it began.
        assert all(b.started_s >= spaced.arrivals_s[b.first] - 1e-3 for b in batches)
        assert all(b.ended_s > b.started_s for b in batches)
        # With no time there is nothing to begin; with nobody allowed to be late it soon stops.
        assert pool.run(Trial(np.full(5, 1.0), 1, max_secs=-1.0)) == []
        assert len(pool.run(Trial(np.zeros(500), 1, 60, bound_ms=0.0, allowed_late=0))) <= 1 + pool.size


def test_reports_of_all_cores(tiny_artifacts: dict[str, Path], tiny_pictures: tuple[Path, ...]) -> None:
    references, photo = model_references([str(tiny_artifacts["float32"])]), tiny_pictures[0].read_bytes()
    common = {"cold_runs": 0, "warmup": 1}
    config = BenchmarkConfig(scenario="offline", num_runs=12, batch_size=4, **common)
    [report] = run_benchmark(references, config, photo)
    assert report.metric("batch_ms").stats.count == 12
    assert report.metric("images_per_s").center > 0
    config = BenchmarkConfig(scenario="server", num_runs=30, qps=20, **common)
    [report] = run_benchmark(references, config, photo)
    assert report.metric("latency_ms").stats.count == 30
    assert report.metric("latency_ms").note.startswith("20 arrivals/s")
    # Thirty arrivals of this seed take so long; nothing is served before it arrives.
    assert report.metric("achieved_qps").center <= 30 / poisson_arrivals(20, 30, 0)[-1]


def test_a_model_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither a packaged model nor a directory"):
        WorkerPool(str(tmp_path / "missing"), "onnxruntime", 1, b"", warmup=0)
