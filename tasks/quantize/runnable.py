"""Whether ONNX Runtime has all that a scheme's file asks of it."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as Unimplemented

from tasks.measure.runtime import open_session


def prove_runnable(path: Path, scheme: str) -> None:
    """Open the file as it will be served.

    Raises:
        ValueError: the runtime lacks an operation or a type; says which.
    """
    try:
        open_session(path)
    except (Fail, InvalidGraph, Unimplemented) as error:
        reason = " ".join(str(error).rpartition(" : ")[2].split())
        raise ValueError(
            f"quantize.scheme {scheme}: ONNX Runtime {onnxruntime.__version__} cannot run its file here: {reason}; "
            "int8 or int4_weight_only would do"
        ) from None
