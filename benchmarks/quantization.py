"""INT8 and fewer bits on Fashion-MNIST: what they cost in accuracy, and their speed beside the peers' files.

    python benchmarks/quantization.py [--models student teacher] [--seeds 3]

Every row is kept as soon as it is measured, so a run that was stopped goes on. Our files come out of the stage itself.
The seed draws the calibration samples and orders the training; the float models are the same for all seeds. Peers run
in environments of their own below artifacts/bench/peers, with their documented defaults on the same float file and 300
of the same samples; one that cannot be installed says so in its row. Accuracies are of the test split; times are
medians on one thread, all files in turns.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import fashion
import numpy as np
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from pydantic import TypeAdapter

from tasks import checkpoint
from tasks.data.splits import Splits, moments
from tasks.export.onnx import export
from tasks.files import Files
from tasks.measure.paired import paired_drop
from tasks.measure.runtime import open_session, run
from tasks.params import Quantize, load_params
from tasks.quantize.stage import quantize
from tasks.training.loop import fit_
from tasks.training.scratch import Scratch

WORK: Final = fashion.ROOT / "artifacts" / "bench" / "quantization"
PEERS: Final = Path(__file__).parent / "peers"
ENVIRONMENTS: Final = fashion.ROOT / "artifacts" / "bench" / "peers"
STUDENT_EPOCHS: Final = 10
PEER_SAMPLES: Final = 300  # NNCF's default
BATCHES: Final = {1: 50, 256: 3}  # calls each, in every one of the rounds
ROUNDS: Final = 20
Row = dict[str, Any]


def schemes() -> dict[str, Row]:
    """Sections of params, each as `quantize` has it."""
    recipe = load_params(fashion.RECIPE).quantize.model_dump(mode="json")
    training = recipe["training"]
    calibration = recipe["calibration"]
    shared = {"calibration": calibration, "portable": False}
    four = {**training, "train": {**training["train"], "epochs": 2 * training["train"]["epochs"], "lr": 0.002}}
    return {
        "ptq": {"scheme": "int8", "ladder": False, **shared},
        "qat": {"scheme": "qat", "training": training, **shared},
        "w4 qat": {"scheme": "qat", "bits": 4, "training": four, **shared},
        "mixed w4/w8": {"scheme": "mixed", "max_drop": 0.001, "training": training, **shared},
        "ptq, portable": {"scheme": "int8", "ladder": False, "calibration": calibration, "portable": True},
    }


def main() -> None:
    """Measure what is missing, and write results/quantization.json after each row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["student", "teacher"], choices=["student", "teacher"])
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    splits = fashion.data()
    for model in asked.models:
        folder = float_model(model, splits)
        kept(splits, f"{model} speed", lambda model=model, folder=folder: speed(model, folder, splits))
    for seed in range(asked.seeds):
        for scheme in schemes():
            for model in asked.models:
                name = f"{model} {scheme} {seed}"
                kept(splits, name, lambda m=model, c=scheme, s=seed: drop(m, c, s, splits))


def kept(splits: Splits, name: str, measure: Callable[[], Row]) -> None:
    """Measure a row unless it is on disk, then renew the summary."""
    path = WORK / f"{name.replace('/', '')}.json"
    if not path.is_file():
        row = measure()
        path.write_text(json.dumps(row, indent=2))
        print(name, json.dumps(row), flush=True)
    summarise()


def float_model(name: str, splits: Splits) -> Path:
    """The folder of the teacher, or of the recipe's student trained alone, with its ONNX file."""
    folder = WORK / f"{name} float"
    if (folder / "whole").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    if name == "teacher":
        model, _ = fashion.teacher(splits)
    else:
        recipe = load_params(fashion.RECIPE)
        model = checkpoint.build(recipe.distill.model, splits.card, moments(splits.train), 0, "distill.model")
        train = recipe.distill.train.model_copy(update={"epochs": STUDENT_EPOCHS})
        scratch = Scratch(fashion.WORK / "scratch", "quantization", splits.card.sha256)
        fit_(model, splits.train, splits.validation, train, seed=0, series="student", scratch=scratch)
    checkpoint.save(model, splits.card, folder, None)
    export(model, splits.card, splits.validation, folder, name)
    (folder / "whole").touch()
    return folder


def drop(model: str, scheme: str, seed: int, splits: Splits) -> Row:
    """One file out of the stage, beside its float parent on the test split."""
    params = TypeAdapter(Quantize).validate_python(schemes()[scheme])
    source, target = float_model(model, splits), WORK / f"{model} {scheme.replace('/', '')} {seed}"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    artifacts, teacher = fashion.WORK / "artifacts", float_model("teacher", splits)
    reads = {"data": artifacts / "data", "split": artifacts / "split.npz", "teacher": teacher, "pruned": source}
    begun = time.process_time()
    files = Files(reads, {"quantized": target / "quantized", "diary": target / "diary"}, fashion.WORK / "scratch")
    figures = quantize(params, seed, files)
    right = [correct(file, splits) for file in (source / "model.onnx", target / "quantized" / "model.onnx")]
    found = paired_drop(*right)
    return {
        "kind": "drop",
        "model": model,
        "scheme": scheme,
        "seed": seed,
        "accuracy_float": float(right[0].mean()),
        "accuracy": float(right[1].mean()),
        "drop": found.drop,
        "drop_upper95": found.upper95,
        **{key: figures[key] for key in ("integer_op_share", "size_bytes", "size_bytes_float")},
        **{key: value for key, value in figures.items() if key.startswith("accuracy_")},
        "cpu_s": round(time.process_time() - begun, 1),
    }


def correct(file: Path, splits: Splits) -> Any:
    """Which test samples the file gets right."""
    return run(open_session(file), splits.test).argmax(1) == splits.test.targets(slice(None)).numpy()


class Reader(CalibrationDataReader):
    """Samples one by one, as ONNX Runtime asks for them."""

    def __init__(self, x: Any) -> None:
        """x: (n, *shape)."""
        self.rows = iter(x)

    def get_next(self) -> Any:
        """The next, or None."""
        row = next(self.rows, None)
        return None if row is None else {"x": row[None]}


def speed(model: str, folder: Path, splits: Splits) -> Row:
    """All files of one float model in turns, by ONNX Runtime and, where it can be installed, by OpenVINO."""
    source = folder / "model.onnx"
    place = WORK / f"{model} peers"
    place.mkdir(exist_ok=True)
    x = splits.train.first(PEER_SAMPLES, 0).inputs(slice(None)).numpy()
    np.save(place / "calibration.npy", x)
    np.save(place / "test.npy", splits.test.inputs(slice(None)).numpy())
    np.save(place / "labels.npy", splits.test.targets(slice(None)).numpy())
    drop(model, "ptq", 0, splits)
    files = {"float": source, "ours": WORK / f"{model} ptq 0" / "quantized" / "model.onnx"}
    failures = dict[str, str]()
    for name, make in ORT.items():
        files[name] = place / f"{name}.onnx"
        make(source, files[name], Reader(x))
    for name, (script, packages, suffix) in SCRIPTS.items():
        failed = by_peer(script, packages, source, place / "calibration.npy", place / f"{name}{suffix}")
        if failed:
            failures[name] = failed
        else:
            files[name] = place / f"{name}{suffix}"
    timed = by_runtime({name: file for name, file in files.items() if file.suffix == ".onnx"}, splits)
    both = {name: str(file) for name, file in files.items() if name in ("float", "ours") or file.suffix == ".xml"}
    return {
        "kind": "speed",
        "model": model,
        "onnxruntime": timed,
        "openvino": by_openvino(both, place) if len(both) > 2 else None,
        "size_bytes": {name: _bytes(file) for name, file in files.items()},
        "failed": failures,
    }


def _bytes(file: Path) -> int:
    """With the weights beside an .xml."""
    companion = file.with_suffix(".bin")
    return file.stat().st_size + (companion.stat().st_size if file.suffix == ".xml" else 0)


def by_runtime(files: dict[str, Path], splits: Splits) -> dict[str, Row]:
    """Medians in ms at batch 1 and 256, and accuracy."""
    sessions = {name: open_session(file) for name, file in files.items()}
    x = splits.test.inputs(slice(0, 256)).numpy()
    times: dict[str, dict[int, list[float]]] = {name: {batch: [] for batch in BATCHES} for name in files}
    for batch, calls in BATCHES.items():
        for _ in range(ROUNDS):
            for name, session in sessions.items():
                for _ in range(calls):
                    begun = time.perf_counter()
                    session.run(None, {"x": x[:batch]})
                    times[name][batch].append(1000 * (time.perf_counter() - begun))
    return {
        name: {
            **{f"b{batch}_ms": statistics.median(times[name][batch]) for batch in BATCHES},
            "accuracy": float(correct(file, splits).mean()),
        }
        for name, file in files.items()
    }


def by_peer(script: str, packages: tuple[str, ...], *arguments: Path) -> str:
    """Run a peer's script in its environment; why it failed, or nothing."""
    home = ENVIRONMENTS / script
    python = home / "bin" / "python"
    if not (home / "whole").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        installed = _call([str(python), "-m", "pip", "install", "-q", *packages])
        if installed:
            return f"cannot be installed: {installed}"
        (home / "whole").touch()
    return _call([str(python), str(PEERS / f"{script}.py"), *map(str, arguments)])


def by_openvino(files: dict[str, str], place: Path) -> dict[str, Row]:
    """The same figures by OpenVINO, in the environment of NNCF."""
    python = ENVIRONMENTS / "nncf_openvino" / "bin" / "python"
    data = [str(place / "test.npy"), str(place / "labels.npy")]
    command = [str(python), str(PEERS / "openvino_times.py"), *data, *files.values()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    timed = json.loads(done.stdout.splitlines()[-1])
    return {name: timed[file] for name, file in files.items()}


def _call(command: list[str]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    return "" if done.returncode == 0 else " ".join((done.stderr or done.stdout).split())[-300:]


def summarise() -> None:
    """The headline figures of the rows measured so far; what has not been measured is null."""
    rows = [json.loads(path.read_text()) for path in sorted(WORK.glob("*.json"))]
    by_scheme = {name: [r for r in rows if r["kind"] == "drop" and r["scheme"] == name] for name in schemes()}
    speeds = {row["model"]: row for row in rows if row["kind"] == "speed"}
    headline = {
        "ptq_drop_upper95_pp": _most(by_scheme["ptq"], "drop_upper95"),
        "qat_drop_upper95_pp": _most(by_scheme["qat"], "drop_upper95"),
        "integer_op_share_ptq": min((row["integer_op_share"] for row in by_scheme["ptq"]), default=None),
        "integer_op_share_qat": min((row["integer_op_share"] for row in by_scheme["qat"]), default=None),
        "speed_vs_best_peer_b1": _against_peers(speeds, "b1_ms"),
        "speed_vs_best_peer_b256": _against_peers(speeds, "b256_ms"),
        "speedup_vs_float_b256": _speedup(speeds, "b256_ms"),
        "speedup_vs_float_b1": _speedup(speeds, "b1_ms"),
        "w4_drop_pp": _most(by_scheme["w4 qat"], "drop"),
        "mixed_drop_pp": _most(by_scheme["mixed w4/w8"], "drop"),
        "portable_drop_pp": _portable(by_scheme["ptq, portable"]),
    }
    seeds = sorted({row["seed"] for row in rows if row["kind"] == "drop"})
    fashion.keep("quantization", seeds, rows, headline)


def _most(rows: list[Row], key: str) -> float | None:
    return 100 * max(row[key] for row in rows) if rows else None


def _portable(rows: list[Row]) -> float | None:
    """What the shipped file loses on x86 without VNNI beside x86 with it, by emulation on validation samples."""
    return max((100 * (row["accuracy_s8s8"] - row["accuracy_u8s8_saturating"]) for row in rows), default=None)


def _against_peers(speeds: dict[str, Row], key: str) -> float | None:
    """How much faster our file is than the fastest of the peers on the same runtime; the least over models."""
    ratios = []
    for row in speeds.values():
        for runtime in ("onnxruntime", "openvino"):
            timed = row[runtime] or {}
            if peers := [own[key] for name, own in timed.items() if name not in ("float", "ours")]:
                ratios.append(min(peers) / timed["ours"][key])
    return min(ratios, default=None)


def _speedup(speeds: dict[str, Row], key: str) -> float | None:
    timed = speeds["teacher"]["onnxruntime"] if "teacher" in speeds else None
    return timed["float"][key] / timed["ours"][key] if timed else None


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
    "olive": ("olive_onnx", ("olive-ai", "onnxruntime", "torch"), ".onnx"),
}

if __name__ == "__main__":
    main()
