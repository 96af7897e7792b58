"""Whether ONNX Runtime has all that a scheme's file asks of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as Unimplemented

from tasks.measure.runtime import open_session

ANYWHERE: Final = ("int8", "int4_weight_only")  # schemes whose files ask for nothing rare
# of Fail, which is whatever has no class of its own: opened and then stopped by its data, or no memory for it
ELSE: Final = ("while running", "allocate")


@contextmanager
def runnable(scheme: str) -> Iterator[None]:
    """Within it ONNX Runtime opens what the scheme has made of a float file that it could open.

    Any other failure passes as it is: no memory, a full disk, a file that is not there, our own mistakes.

    Raises:
        ValueError: the runtime lacks an operation or a type; says which.
    """
    try:
        yield
    except (Fail, InvalidGraph, Unimplemented) as error:
        if isinstance(error, Fail) and any(words in str(error) for words in ELSE):
            raise
        said = " ".join(str(error).rpartition(" : ")[2].split())
        reason = re.sub(r"^Load model from .* failed: ?", "", said).rstrip(".")
        others = " or ".join(name for name in ANYWHERE if name != scheme)
        raise ValueError(
            f"quantize.scheme {scheme}: ONNX Runtime {onnxruntime.__version__} cannot run its file here: {reason}; "
            f"{others} would do"
        ) from None


def prove_runnable(path: Path, scheme: str) -> None:
    """Open the file as it will be served.

    Raises:
        ValueError: the runtime lacks an operation or a type; says which.
    """
    with runnable(scheme):
        open_session(path)
