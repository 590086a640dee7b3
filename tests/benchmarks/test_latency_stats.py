"""Percentiles of known samples, and intervals that hold the truth as often as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.latency_stats import MINIMUM_SAMPLES, LatencyStats, interval_ranks, minimum_samples
from mobile_multimodal.errors import InconclusiveError


def test_the_fewest_samples_are_mlperf_s() -> None:
    assert {q: MINIMUM_SAMPLES[q] for q in (90, 95, 99)} == {90: 64, 95: 130, 99: 662}
    assert MINIMUM_SAMPLES[50] == minimum_samples(50) == 11
    assert minimum_samples(5) == minimum_samples(95)


@pytest.mark.parametrize("q", [50, 90, 95, 99])
def test_one_sample_less_states_nothing(q: int) -> None:
    needed = MINIMUM_SAMPLES[q]
    samples = tuple(float(x) for x in range(needed))
    estimate = LatencyStats(samples).percentile(q)
    assert estimate.low_ms <= estimate.value_ms <= estimate.high_ms
    with pytest.raises(InconclusiveError, match=f"^p{q} needs {needed} samples, there are {needed - 1}$"):
        LatencyStats(samples[1:]).percentile(q)


def test_percentiles_are_nearest_ranks_whatever_the_order() -> None:
    samples = np.random.default_rng(0).permutation(np.arange(1.0, 1001.0))
    stats = LatencyStats(tuple(samples.tolist()))
    assert [stats.percentile(q).value_ms for q in (50, 90, 95, 99)] == [500.0, 900.0, 950.0, 990.0]
    assert (stats.count, stats.mean_ms) == (1000, 500.5)


def test_interval_ranks_are_the_binomial_s() -> None:
    # 100 fair coins: at most 39 heads have a chance of 1.76 %, at most 40 of 2.84 %.
    assert interval_ranks(100, 50) == (40, 61)
    for count, q in ((130, 95), (662, 99), (1000, 90)):
        low, high = interval_ranks(count, q)
        share = q / 100
        chances = [math.comb(count, k) * share**k * (1 - share) ** (count - k) for k in range(count + 1)]
        assert sum(chances[:low]) <= 0.025 < sum(chances[: low + 1])
        assert sum(chances[high:]) <= 0.025 < sum(chances[high - 1 :])
    with pytest.raises(InconclusiveError, match="5 samples give no 95 % interval of p50"):
        interval_ranks(5, 50)


@pytest.mark.parametrize(("q", "count"), [(50, 40), (90, 100), (95, 130), (95, 600), (99, 662)])
def test_intervals_hold_the_truth_as_often_as_they_say(q: int, count: int) -> None:
    """Latencies of a known skewed distribution: exp(normal), whose percentiles are exp of the normal's."""
    normal = {50: 0.0, 90: 1.2815515655446004, 95: 1.6448536269514722, 99: 2.3263478740408408}
    truth = math.exp(normal[q])
    trials = np.random.default_rng(q).lognormal(size=(1500, count))
    held = 0
    for row in trials:
        estimate = LatencyStats(tuple(row.tolist())).percentile(q)
        held += estimate.low_ms <= truth <= estimate.high_ms
    # 0.95 promised; three standard errors of 1500 trials are 0.017.
    assert 0.933 <= held / len(trials) <= 0.995


@pytest.mark.parametrize("samples", [(), (1.0, math.nan), (math.inf,), (2.0, -0.1)])
def test_what_is_no_latency_is_refused(samples: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="latenc"):
        LatencyStats(samples)


@pytest.mark.parametrize("q", [0, 100, -5])
def test_percentiles_that_there_are_not(q: int) -> None:
    with pytest.raises(ValueError, match=r"outside 1\.\.99"):
        LatencyStats((1.0,)).percentile(q)
