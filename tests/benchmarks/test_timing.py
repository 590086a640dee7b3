"""The timer against sleeps of a known length; only relations that hold however busy the machine is."""

from __future__ import annotations

import time

from benchmarks.timing import SamplingPlan, elapsed_ms, take_samples


def asleep(seconds: float) -> float:
    started = time.perf_counter_ns()
    time.sleep(seconds)
    return elapsed_ms(started)


def test_a_sample_is_never_shorter_than_the_sleep_that_it_times() -> None:
    before = time.perf_counter_ns()
    [short, long] = take_samples([lambda: asleep(0.01), lambda: asleep(0.04)], SamplingPlan(runs=5))
    all_of_it = elapsed_ms(before)
    assert len(short) == len(long) == 5
    assert min(short) >= 10.0
    assert min(long) >= 40.0
    # Nothing is counted twice: the samples lie side by side within the time that passed.
    assert sum(short) + sum(long) <= all_of_it


def test_two_readings_make_milliseconds() -> None:
    assert elapsed_ms(1_000_000, 3_500_000) == 2.5


def test_subjects_take_turns_and_warm_up_is_not_kept() -> None:
    order: list[str] = []

    def subject(name: str) -> int:
        order.append(name)
        return len(order)

    shown: list[tuple[int, int]] = []
    samples = take_samples(
        [lambda: subject("a"), lambda: subject("b")],
        SamplingPlan(runs=3, warmup=2),
        lambda done, total: shown.append((done, total)),
    )
    assert order == ["a", "b"] * 5
    assert samples == [[5, 7, 9], [6, 8, 10]]
    assert shown == [(1, 3), (2, 3), (3, 3)]


def test_it_goes_on_for_the_least_time_and_stops_at_the_most() -> None:
    before = time.perf_counter_ns()
    [samples] = take_samples([lambda: asleep(0.02)], SamplingPlan(runs=1, min_secs=0.1))
    assert elapsed_ms(before) >= 100.0
    assert samples
    [few] = take_samples([lambda: asleep(0.02)], SamplingPlan(runs=10_000, max_secs=0.1))
    assert 1 <= len(few) <= 6
    [one] = take_samples([lambda: asleep(0.02)], SamplingPlan(runs=10_000, max_secs=0.001))
    assert len(one) == 1
