"""ONNX Runtime, as it will run the files that ship: answers, latency, throughput."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from tasks.data.batches import Samples, in_order

Call = Callable[[npt.NDArray[np.float32]], object]


@dataclass(frozen=True)
class Timing:
    """Latency of one sample, and samples per second at the large batch; one thread."""

    latency_ms_p50: float
    latency_ms_p95: float
    throughput_per_s: float


def open_session(path: Path, threads: int = 1, optimised: Path | None = None) -> onnxruntime.InferenceSession:
    """The file, opened on the CPU with `threads` threads that do not spin while they wait.

    optimised: where the graph that is really run is written to.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if optimised:
        options.optimized_model_filepath = str(optimised)
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(session: onnxruntime.InferenceSession, samples: Samples) -> npt.NDArray[np.float32]:
    """(len(samples), classes): the file's logits, in the order of the samples' indices."""
    parts: list[Any] = [session.run(None, {"x": inputs.numpy()})[0] for inputs, _ in in_order(samples)]
    return np.concatenate(parts)


def interleaved(
    calls: Mapping[str, Call], batch: npt.NDArray[np.float32], *, rounds: int, runs: int
) -> dict[str, Timing]:
    """Time every call on one sample and on the whole batch.

    The calls take turns, `runs` at a time, so that whatever else the machine does hits all of them alike.
    """
    one = batch[:1]
    single: dict[str, list[float]] = {name: [] for name in calls}
    whole: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call(one), call(batch)
    for _ in range(rounds):
        for name, call in calls.items():
            call(one)
            single[name] += [_seconds(call, one) for _ in range(runs)]
            whole[name].append(_seconds(call, batch))
    return {
        name: Timing(
            latency_ms_p50=1000 * float(np.percentile(single[name], 50)),
            latency_ms_p95=1000 * float(np.percentile(single[name], 95)),
            throughput_per_s=len(batch) / float(np.percentile(whole[name], 50)),
        )
        for name in calls
    }


def _seconds(call: Call, inputs: npt.NDArray[np.float32]) -> float:
    start = time.perf_counter()
    call(inputs)
    return time.perf_counter() - start
