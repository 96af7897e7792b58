"""Latency and throughput of calls that take turns, with intervals."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from tasks.measure.runtime import Call

Seconds = npt.NDArray[np.float64]
RESAMPLES: Final = 1000


@dataclass(frozen=True)
class Timing:
    """Latency of one sample, and samples per second at the large batch.

    low95, high95: the interval of the median, or of what follows from it; rounds are resampled as a whole, since
    calls of one round share whatever else the machine did then.
    """

    latency_ms_p50: float
    latency_ms_p50_low95: float
    latency_ms_p50_high95: float
    latency_ms_p95: float
    throughput_per_s: float
    throughput_per_s_low95: float
    throughput_per_s_high95: float


@dataclass(frozen=True)
class Runs:
    """Seconds of every call: single (rounds, runs) of one sample, whole (rounds, batch runs) of `batch` samples."""

    single: Seconds
    whole: Seconds
    batch: int

    def timing(self) -> Timing:
        """Medians and their 95 % intervals."""
        latency = 1000 * self.single
        low, high = _interval(_medians(latency))
        slow, fast = _interval(self.batch / _medians(self.whole))
        return Timing(
            latency_ms_p50=float(np.median(latency)),
            latency_ms_p50_low95=low,
            latency_ms_p50_high95=high,
            latency_ms_p95=float(np.percentile(latency, 95)),
            throughput_per_s=self.batch / float(np.median(self.whole)),
            throughput_per_s_low95=slow,
            throughput_per_s_high95=fast,
        )


def speedup(own: Seconds, parent: Seconds) -> tuple[float, float, float]:
    """How many times faster than the parent's the median is, and the 95 % interval; both (rounds, runs), in turns."""
    low, high = _interval(_medians(parent) / _medians(own))
    return float(np.median(parent) / np.median(own)), low, high


def interleaved(
    calls: Mapping[str, Call], batch: npt.NDArray[np.float32], *, rounds: int, runs: int
) -> dict[str, Timing]:
    """Time every call on one sample, and once a round on the whole batch."""
    return {name: found.timing() for name, found in take_turns(calls, batch, rounds, runs, 1).items()}


def take_turns(
    calls: Mapping[str, Call], batch: npt.NDArray[np.float32], rounds: int, runs: int, batch_runs: int
) -> dict[str, Runs]:
    """Time every call on one sample and on the whole batch.

    The calls take turns, `runs` at a time, so that whatever else the machine does hits all of them alike; each round
    begins with another, and after all have begun the direction changes, since what ran before leaves its mark on caches
    and clock.
    """
    one, names = batch[:1], [*calls]
    single = {name: np.empty((rounds, runs)) for name in calls}
    whole = {name: np.empty((rounds, batch_runs)) for name in calls}
    for call in calls.values():
        call(one), call(batch)
    for turn in range(rounds):
        cycle, first = divmod(turn, len(names))
        order = names[first:] + names[:first]
        for name in order[:: -1 if cycle % 2 else 1]:
            call = calls[name]
            call(one)
            single[name][turn] = [_seconds(call, one) for _ in range(runs)]
            whole[name][turn] = [_seconds(call, batch) for _ in range(batch_runs)]
    return {name: Runs(single[name], whole[name], len(batch)) for name in calls}


def _seconds(call: Call, inputs: npt.NDArray[np.float32]) -> float:
    start = time.perf_counter()
    call(inputs)
    return time.perf_counter() - start


def _medians(values: Seconds) -> Seconds:
    """(RESAMPLES,): medians over as many rounds, drawn with replacement; the same draw for every call."""
    rounds = len(values)
    drawn = np.random.default_rng(0).integers(rounds, size=(RESAMPLES, rounds))
    medians: Seconds = np.median(values[drawn].reshape(RESAMPLES, -1), axis=1)
    return medians


def _interval(resampled: Seconds) -> tuple[float, float]:
    low, high = np.percentile(resampled, [2.5, 97.5])
    return float(low), float(high)
