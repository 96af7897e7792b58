"""The runtimes that serve the files that ship: one INT8 or float ONNX file is read by each of them.

Importing this needs no torch, so that a fresh process shows what serving costs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import onnxruntime

if TYPE_CHECKING:
    from tasks.data.batches import Samples

Answers = npt.NDArray[np.float32]
Call = Callable[[npt.NDArray[np.float32]], Answers]
BATCH: Final = 1000


def open_session(file: Path | bytes, threads: int = 1, optimised: Path | None = None) -> onnxruntime.InferenceSession:
    """The file, or what stands in one, opened on the CPU with `threads` threads that do not spin while they wait.

    optimised: where the graph that is really run is written to.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if optimised:
        options.optimized_model_filepath = str(optimised)
    return onnxruntime.InferenceSession(
        file if isinstance(file, bytes) else str(file), options, providers=["CPUExecutionProvider"]
    )


def open_onnxruntime(path: Path, threads: int = 1) -> Call:
    """An ONNX file in ONNX Runtime."""
    session = open_session(path, threads)

    def call(inputs: npt.NDArray[np.float32]) -> Answers:
        answers: Answers = session.run(None, {"x": inputs})[0]
        return answers

    return call


def open_openvino(path: Path, threads: int = 1) -> Call:
    """An ONNX file, or OpenVINO's own .xml with its .bin beside it, in OpenVINO."""
    request = compile_openvino(path, threads).create_infer_request()

    def call(inputs: npt.NDArray[np.float32]) -> Answers:
        answers: Answers = request.infer([inputs], share_inputs=True)[0]
        return answers

    return call


def compile_openvino(path: Path, threads: int = 1) -> Any:
    """The file as OpenVINO runs it on the CPU, a batch at a time."""
    import openvino

    # without the hint it may compute in halves where the processor has them
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    return openvino.Core().compile_model(str(path), "CPU", settings)


RUNTIMES: Final[Mapping[str, Callable[[Path, int], Call]]] = {
    "onnxruntime": open_onnxruntime,
    "openvino": open_openvino,
}


def run(session: onnxruntime.InferenceSession, samples: Samples) -> Answers:
    """(len(samples), classes): the file's logits, in the order of the samples' indices."""
    return answers(lambda inputs: session.run(None, {"x": inputs})[0], samples)


def answers(call: Call, samples: Samples, batch_size: int = BATCH) -> Answers:
    """(len(samples), classes): the logits of a file that is open in any runtime, in the order of the samples."""
    starts = range(0, len(samples), batch_size)
    parts = [call(samples.inputs(slice(start, start + batch_size)).numpy()) for start in starts]
    return np.concatenate(parts)
