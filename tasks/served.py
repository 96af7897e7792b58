"""The served model: raw rows in, a label and probabilities out, by what model.onnx and deploy.json say alone.

Imports nothing of Downsize: this very file travels with a registered version, so that it is served where only
NumPy, pandas and ONNX Runtime are installed. The runtimes are set as those of tasks/measure/runtime.py, which measured.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
import numpy.typing as npt
import onnxruntime
import pandas as pd

log = logging.getLogger(__name__)

MISSING: Final = "(missing)"  # the category of a cell without a value
SHOWN: Final = 5
OWN: Final = "model.onnx"  # of a registered version, beside deploy.json

Array = npt.NDArray[Any]
Logits = Callable[[Array], Array]


class Served:
    """The file in `folder`, opened on the CPU.

    predict takes what MLflow hands over, a table or the array `x`; encode and answer are its two halves.
    """

    def __init__(self, folder: Path, model: Path | bytes, runtime: str = "onnxruntime", threads: int = 1) -> None:
        """Read deploy.json of `folder`, and open `model`, an ONNX file or what one holds."""
        self.deploy = _deploy(folder)
        self.logits = RUNTIMES[runtime](model, threads)

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """A row for each sample: `label`, and `probability CLASS` for each class."""
        if isinstance(model_input, pd.DataFrame) and self.deploy["columns"]:
            return self.answer(self.encode(model_input))
        return self.answer(self.shaped(model_input["x"] if isinstance(model_input, Mapping) else model_input))

    def encode(self, rows: pd.DataFrame) -> Array:
        """(len(rows), features): as ingest made x of the training table; further columns of `rows` are ignored.

        Raises:
            ValueError: a column is missing, a number is none, or a category was not in the training table.
        """
        parts = []
        for column in self.deploy["columns"]:
            coded, fits = _encode(rows, column)
            if not fits.all():
                _refuse(rows[column["name"]], int(fits.argmin()), column)
            parts.append(coded)
        return np.concatenate(parts, axis=1)

    def fitting(self, rows: pd.DataFrame) -> Array:
        """(len(rows),) bool: the rows that encode takes.

        Raises:
            ValueError: a column is missing.
        """
        fits: Array = np.logical_and.reduce([_encode(rows, column)[1] for column in self.deploy["columns"]])
        return fits

    def shaped(self, x: Any) -> Array:
        """The array as float32.

        Raises:
            ValueError: it has not the shape of the model's input.
        """
        array, shape = np.asarray(x), self.deploy["inputs"][0]["shape"][1:]
        if list(array.shape[1:]) != shape:
            raise ValueError(f"x is {array.shape}; it must be (samples, {', '.join(map(str, shape))})")
        return array.astype(np.float32, copy=False)

    def answer(self, x: Array) -> pd.DataFrame:
        """Of (n, *shape) float32: `label`, the likeliest class, and the softmax of the file's logits."""
        return labelled(self.logits(x), self.deploy["classes"])


def on_device(folder: Path, name: str = "", read: Callable[[Path], bytes] = Path.read_bytes) -> Served:
    """As deploy.json of `folder` says that a device is served: the file, its runtime and the number of threads.

    folder: what was handed over, or a registered version. Of a version that serves no device, and where none is named,
    it is model.onnx in ONNX Runtime on one thread. Where a runtime is not installed, ONNX Runtime serves, if the record
    says that the same file meets the profile in it too.
    name: of the profile; empty, the first that anything is served on.
    read: gives what the file held when it was measured.

    Raises:
        ValueError: there is no such profile, nothing is served on it, its runtime is missing, or the file is not the
            one that was measured.
    """
    deploy = _deploy(folder)
    profiles = {profile["name"]: profile for profile in deploy.get("profiles", ())}
    first = next((each for each, profile in profiles.items() if profile["served"]), "")
    if not (name or first) and (own := deploy.get("sha256")):
        return Served(folder, _measured(folder / OWN, own, read))
    name = name or first or next(iter(profiles), "")
    if name not in profiles:
        raise ValueError(f"{folder}: has no profile '{name}'; {_there(name, profiles)}")
    if not (served := profiles[name]["served"]):
        raise ValueError(f"{folder}: nothing is served on {name}: {'; '.join(profiles[name]['misses'])}")
    file = (folder / served["file"]).resolve()
    if not file.is_relative_to(folder.resolve()) or served["runtime"] not in RUNTIMES:
        raise ValueError(
            f"{folder}: serves {served['file']} by {served['runtime']}; "
            f"a file in there would do, by {' or '.join(RUNTIMES)}"
        )
    model = _measured(file, served["sha256"], read)
    return Served(folder, model, *_installed(folder, name, served))


def _measured(file: Path, sha256: str, read: Callable[[Path], bytes]) -> bytes:
    model = read(file)
    if (found := hashlib.sha256(model).hexdigest()) != sha256:
        raise ValueError(f"{file}: its sha256 is {found[:12]}, of what was measured it is {sha256[:12]}")
    return model


def _installed(folder: Path, name: str, served: Mapping[str, Any]) -> tuple[str, int]:
    """The runtime and threads that a profile is served with here."""
    runtime = served["runtime"]
    if find_spec(runtime):
        return runtime, served["threads"]
    if not (threads := served.get("onnxruntime_threads")):
        raise ValueError(
            f"{folder}: {name} is served by {runtime}, which is not installed, and onnxruntime was not measured to "
            f"meet it; `pip install {runtime}` would do"
        )
    log.warning(
        "%s was fastest in %s, which is not installed; onnxruntime serves it on %d thread%s, as was measured too",
        *(name, runtime, threads, "s" * (threads > 1)),
    )
    return "onnxruntime", threads


def _there(name: str, profiles: Mapping[str, Any]) -> str:
    if close := get_close_matches(name, profiles, n=1):
        return f"did you mean '{close[0]}'?"
    return f"there {'are ' + _some(profiles) if profiles else 'is none'}"


def _deploy(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "deploy.json").read_text(encoding="utf-8"))
    return found


def _open_onnxruntime(model: Path | bytes, threads: int) -> Logits:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda x: np.asarray(session.run(None, {"x": x})[0])


def _open_openvino(model: Path | bytes, threads: int) -> Logits:
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    core = openvino.Core()
    request = core.compile_model(core.read_model(model), "CPU", settings).create_infer_request()
    return lambda x: np.asarray(request.infer([x], share_inputs=True)[0])


RUNTIMES: Final[Mapping[str, Callable[[Path | bytes, int], Logits]]] = {
    "onnxruntime": _open_onnxruntime,
    "openvino": _open_openvino,
}


def labelled(logits: Array, classes: Sequence[str]) -> pd.DataFrame:
    """A row for each of (n, classes) logits: `label`, and `probability CLASS` for each class."""
    raised = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    probabilities = raised / raised.sum(axis=1, keepdims=True)
    columns = {f"probability {name}": probabilities[:, place] for place, name in enumerate(classes)}
    return pd.DataFrame({"label": [classes[place] for place in logits.argmax(axis=1)], **columns})


def _encode(rows: pd.DataFrame, column: Mapping[str, Any]) -> tuple[Array, Array]:
    """The column's features, (n, features), and (n,) which of its values are such as the model knows."""
    name = column["name"]
    if name not in rows:
        close = get_close_matches(name, [str(other) for other in rows], n=1, cutoff=0.5)
        hint = f"did you mean it by '{close[0]}'?" if close else f"there are {_some(rows.columns)}"
        raise ValueError(f"column '{name}' is missing; {hint}")
    return _number(rows[name]) if column["kind"] == "numeric" else _one_hot(rows[name], column["categories"])


def _number(values: pd.Series[Any]) -> tuple[Array, Array]:
    with np.errstate(over="ignore"):
        numbers = pd.to_numeric(values, errors="coerce").to_numpy(np.float64, na_value=np.nan).astype(np.float32)
    return numbers[:, None], np.isfinite(numbers)


def _one_hot(values: pd.Series[Any], categories: Sequence[str]) -> tuple[Array, Array]:
    text = values.astype(str).where(values.notna(), MISSING)
    codes = pd.Categorical(text, categories=list(categories)).codes
    return np.eye(len(categories), dtype=np.float32)[codes], codes >= 0


def _refuse(values: pd.Series[Any], place: int, column: Mapping[str, Any]) -> NoReturn:
    numeric, value = column["kind"] == "numeric", values.astype(object).iloc[place]
    shown = MISSING if pd.isna(value) and not numeric else value
    wanted = "a finite number" if numeric else f"one of {_some(column['categories'])}"
    raise ValueError(f"column '{column['name']}' is {shown!r} in row {values.index[place]}; it must be {wanted}")


def _some(names: Any) -> str:
    listed = [str(name) for name in names]
    return ", ".join(listed[:SHOWN]) + (", ..." if len(listed) > SHOWN else "")


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> Served:
    """What MLflow calls to load a registered version; model_config: `profile`, the device's, may stand in it."""
    name = (model_config or {}).get("profile") or ""
    if not isinstance(name, str):
        raise ValueError(f"model_config: profile is {name!r}; it must be the name of a profile")
    return on_device(Path(path), name)
