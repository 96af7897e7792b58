"""The files that other quantizers make of a float file, with their documented defaults.

ONNX Runtime's own is called here; the others run in environments of their own, below artifacts/bench/peers.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import fashion
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

SCRIPTS_FOLDER: Final = Path(__file__).parent / "peers"
ENVIRONMENTS: Final = fashion.ROOT / "artifacts" / "bench" / "peers"
Row = dict[str, Any]


class Reader(CalibrationDataReader):
    """Samples one by one, as ONNX Runtime asks for them."""

    def __init__(self, x: Any) -> None:
        """x: (n, *shape)."""
        self.rows = iter(x)

    def get_next(self) -> Any:
        """The next, or None."""
        row = next(self.rows, None)
        return None if row is None else {"x": row[None]}


def by_peer(script: str, packages: tuple[str, ...], *arguments: Path) -> str:
    """Run a peer's script in its environment; why it failed, or nothing."""
    home = ENVIRONMENTS / script
    python = home / "bin" / "python"
    if not (home / "whole").exists():
        made = _call([sys.executable, "-m", "venv", "--clear", str(home)])
        if failed := made or _call([str(python), "-m", "pip", "install", "-q", *packages]):
            return f"cannot be installed: {failed}"
        (home / "whole").touch()
    return _call([str(python), str(SCRIPTS_FOLDER / f"{script}.py"), *map(str, arguments)])


def versions(script: str, packages: tuple[str, ...]) -> str:
    """Of the packages that were asked for, as they are in the peer's environment."""
    python = str(ENVIRONMENTS / script / "bin" / "python")
    names = [package.partition("==")[0] for package in packages]
    code = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]), sep='\\n')"
    done = subprocess.run([python, "-c", code, *names], capture_output=True, text=True, check=True)
    return ", ".join(" ".join(pair) for pair in zip(names, done.stdout.split(), strict=True))


def by_openvino(files: dict[str, str], place: Path) -> dict[str, Row]:
    """The same figures by OpenVINO, in the environment of NNCF."""
    python = ENVIRONMENTS / "nncf_openvino" / "bin" / "python"
    data = [str(place / "test.npy"), str(place / "labels.npy")]
    command = [str(python), str(SCRIPTS_FOLDER / "openvino_times.py"), *data, *files.values()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    timed = json.loads(done.stdout.splitlines()[-1])
    return {name: timed[file] for name, file in files.items()}


def _call(command: list[str]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    return "" if done.returncode == 0 else " ".join((done.stderr or done.stdout).split())[-300:]


def _ort(**options: Any) -> Callable[[Path, Path, Reader], None]:
    def make(source: Path, target: Path, reader: Reader) -> None:
        quantize_static(source, target, reader, quant_format=QuantFormat.QDQ, **options)

    return make


ORT: Final = {
    "onnxruntime default": _ort(),
    "onnxruntime u8s8 per channel": _ort(
        per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8
    ),
}
SCRIPTS: Final = {
    "nncf": ("nncf_onnx", ("nncf==3.4.0", "onnx", "onnxruntime"), ".onnx"),
    "nncf openvino": ("nncf_openvino", ("nncf==3.4.0", "openvino==2026.4.1"), ".xml"),
    "olive": ("olive_onnx", ("olive-ai==0.13.0", "onnxruntime", "torch", "requests"), ".onnx"),
}
