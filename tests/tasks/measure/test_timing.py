"""Medians, and what their intervals are worth."""

import numpy as np
import pytest

from tasks.measure.timing import Runs, interleaved, speedup, take_turns


def noisy(median_ms, rounds=20, runs=20, seed=0):
    """Seconds whose rounds differ from each other more than the calls of one round do."""
    rng = np.random.default_rng(seed)
    return median_ms / 1000 * rng.lognormal(0, 0.1, (rounds, 1)) * rng.lognormal(0, 0.02, (rounds, runs))


def test_medians_by_hand():
    timing = Runs(np.array([[0.001, 0.002], [0.003, 0.004]]), np.array([[0.5], [0.25]]), batch=100).timing()
    assert timing.latency_ms_p50 == pytest.approx(2.5) and timing.latency_ms_p95 == pytest.approx(3.85)
    assert timing.throughput_per_s == pytest.approx(100 / 0.375)


def test_the_interval_covers_the_true_median_about_as_often_as_it_says():
    found = [Runs(noisy(2.0, seed=seed), noisy(50.0, seed=seed), 256).timing() for seed in range(100)]
    covered = [one.latency_ms_p50_low95 <= 2.0 <= one.latency_ms_p50_high95 for one in found]
    assert 85 <= sum(covered) <= 100
    assert all(one.latency_ms_p50_low95 <= one.latency_ms_p50 <= one.latency_ms_p50_high95 for one in found)
    assert all(one.throughput_per_s_low95 <= one.throughput_per_s <= one.throughput_per_s_high95 for one in found)


def test_what_slows_a_whole_round_cancels_out_of_the_speedup():
    parent = noisy(2.0)
    middle, low, high = speedup(parent / 4, parent)
    assert (middle, low, high) == pytest.approx((4, 4, 4))
    apart = speedup(noisy(0.5, seed=1), parent)
    assert apart[1] < 4 < apart[2] and apart[2] - apart[1] > 0.2


def test_calls_take_turns_and_are_counted():
    log = []
    calls = {name: lambda inputs, name=name: log.append((name, len(inputs))) for name in "ab"}
    found = take_turns(calls, np.zeros((8, 4), np.float32), rounds=2, runs=3, batch_runs=2)
    turn = [[(name, 1)] * 4 + [(name, 8)] * 2 for name in "ab"]  # the first of each turn warms up
    assert log == [("a", 1), ("a", 8), ("b", 1), ("b", 8)] + turn[0] + turn[1] + turn[1] + turn[0]
    assert found["a"].single.shape == (2, 3) and found["a"].whole.shape == (2, 2) and found["a"].batch == 8
    assert set(interleaved(calls, np.zeros((8, 4), np.float32), rounds=1, runs=1)) == {"a", "b"}
