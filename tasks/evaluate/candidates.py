"""What could be served: a float or an integer file, in a runtime, with so many threads; all measured in turns."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tasks.data.batches import Samples
from tasks.extras import present
from tasks.measure.floats import float_operations
from tasks.measure.fresh import ColdStart, cold_start
from tasks.measure.runtime import RUNTIMES, Call, answers, open_onnxruntime
from tasks.measure.size import deployed_bytes
from tasks.measure.timing import Timing, speedup, take_turns
from tasks.params import Evaluate, Profile

ALONE: Final = 100  # samples that are also asked one by one
STARTS: Final = 2  # fresh processes; the faster counts, as the first may have waited for the disk


@dataclass(frozen=True)
class Candidate:
    """One way to serve, and what it takes.

    speedup: over the float file in the same runtime with as many threads, with its 95 % interval; 1 of that file.
    label_agreement: share of samples that get the label that the file gives in ONNX Runtime with one thread; the lower
        of all at once and one by one, as a runtime may be wrong in one of them.
    float_operations: kinds of operations in float, by ONNX Runtime's graph of the file.
    """

    model: str
    runtime: str
    threads: int
    size_bytes: int
    timing: Timing
    runs: int
    speedup: tuple[float, float, float]
    cold: ColdStart
    label_agreement: float
    float_operations: tuple[str, ...]

    def figures(self) -> dict[str, Any]:
        """Flat, units in the names."""
        middle, low, high = self.speedup
        return {
            **{
                key: getattr(self, key)
                for key in ("model", "runtime", "threads", "size_bytes", "runs", "label_agreement")
            },
            **asdict(self.timing),
            "speedup_over_float": middle,
            "speedup_over_float_low95": low,
            "speedup_over_float_high95": high,
            **asdict(self.cold),
            "float_operations": list(self.float_operations),
        }


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ways(name: str, profile: Profile, available: int) -> list[tuple[str, int]]:
    """(runtime, threads) that a profile may be served with on so many processors: powers of two, and its most.

    Raises:
        ValueError: none of its runtimes is installed.
    """
    runtimes = present(profile.runtimes, f"evaluate.profiles.{name}.runtimes")
    most = available if profile.threads == "all" else min(profile.threads, available)
    counts = sorted({2**power for power in range(most.bit_length()) if 2**power < most} | {most})
    return [(runtime, threads) for runtime in runtimes for threads in counts]


def measure(files: Mapping[str, Path], parent: str, samples: Samples, params: Evaluate) -> list[Candidate]:
    """Every file in every way that a profile may take.

    files: ONNX files by the name of their model; parent: which of them is the float one.

    Raises:
        ValueError: a profile's runtimes are not installed.
    """
    wanted = sorted({way for name, profile in params.profiles.items() for way in ways(name, profile, cores())})
    keys = {f"{model} {runtime} {threads}": (model, runtime, threads) for model in files for runtime, threads in wanted}
    calls = {key: RUNTIMES[runtime](files[model], threads) for key, (model, runtime, threads) in keys.items()}
    size = params.throughput_batch_size
    batch = np.resize(samples.inputs(slice(0, size)).numpy(), (size, *samples.shape))
    found = take_turns(calls, batch, params.latency_rounds, params.latency_runs, params.throughput_runs)
    floats = {model: tuple(float_operations(path)) for model, path in files.items()}
    labels = {model: answers(open_onnxruntime(path), samples).argmax(1) for model, path in files.items()}
    return [
        Candidate(
            model=model,
            runtime=runtime,
            threads=threads,
            size_bytes=deployed_bytes(files[model]),
            timing=found[key].timing(),
            runs=found[key].single.size,
            speedup=speedup(found[key].single, found[f"{parent} {runtime} {threads}"].single),
            cold=_started(files[model], runtime, threads, samples.shape),
            label_agreement=_agreement(calls[key], labels[model], samples),
            float_operations=floats[model],
        )
        for key, (model, runtime, threads) in keys.items()
    ]


def _agreement(call: Call, labels: npt.NDArray[np.int64], samples: Samples) -> float:
    few = samples.first(ALONE, seed=0)
    alone = answers(call, few, batch_size=1).argmax(1) == labels[np.isin(samples.indices, few.indices)]
    together = answers(call, samples).argmax(1) == labels
    return float(min(alone.mean(), together.mean()))


def _started(path: Path, runtime: str, threads: int, shape: tuple[int, ...]) -> ColdStart:
    starts = [cold_start(path, runtime, threads, shape) for _ in range(STARTS)]
    return min(starts, key=lambda start: start.cold_start_ms)
