"""INT8 and fewer bits on Fashion-MNIST: what they cost in accuracy, and their speed beside the peers' files.

    python benchmarks/quantization.py [--models student teacher] [--seeds 3]

Every row is kept as soon as it is measured, so a run that was stopped goes on. Our files come out of the stage itself.
The seed draws the calibration samples and orders the training; the float models are the same for all seeds. Peers run
in environments of their own below artifacts/bench/peers, with their documented defaults on the same float model and 300
of the same samples, once as PyTorch exports it and once as our float file; one that cannot be installed says so in its
row. Accuracies are of the test split; a
scheme's limit is that of the drop's mean over the seeds, sample by sample. Times are medians on one thread, all files
in turns, and of these the medians over three openings of every file.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import fashion
import numpy as np
import torch
from pydantic import TypeAdapter
from quantization_headline import OUR_FLOAT, Row, headline
from quantization_peers import ORT, SCRIPTS, Reader, by_openvino, by_peer, versions
from scipy.stats import norm
from tabulate import tabulate

from tasks import checkpoint
from tasks.data.splits import Splits
from tasks.export.onnx import export
from tasks.files import Files
from tasks.measure.paired import ALPHA, paired_drop
from tasks.measure.runtime import open_onnxruntime, open_session, run
from tasks.measure.size import deployed_bytes
from tasks.measure.timing import take_turns
from tasks.params import Quantize, load_params
from tasks.quantize.products import ARITHMETICS
from tasks.quantize.stage import quantize

WORK: Final = fashion.ROOT / "artifacts" / "bench" / "quantization"
PEER_SAMPLES: Final = 300  # NNCF's default
OPENINGS: Final = 3  # of every file: where its memory happens to lie is worth a percent
ROUNDS, RUNS, BATCH, BATCH_RUNS = 12, 50, 256, 3  # calls with one sample and with a batch, in every round


def schemes() -> dict[str, Row]:
    """Sections of params, each as `quantize` has it; those that train come last."""
    recipe = load_params(fashion.RECIPE).quantize.model_dump(mode="json")
    training = recipe["training"]
    calibration = recipe["calibration"]
    shared = {"calibration": calibration, "portable": False}
    four = {**training, "train": {**training["train"], "lr": 0.0005}}
    return {
        "ptq": {"scheme": "int8", "ladder": False, **shared},
        "ptq, portable": {"scheme": "int8", "ladder": False, "calibration": calibration, "portable": True},
        "qat": {"scheme": "qat", "training": training, **shared},
        "w4 qat": {"scheme": "qat", "bits": 4, "training": four, **shared},
        "mixed w4/w8": {"scheme": "mixed", "max_drop": 0.02, "training": four, **shared},
    }


def main() -> None:
    """Measure what is missing, and write results/quantization.json after each row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["student", "teacher"], choices=["student", "teacher"])
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    splits = fashion.data()
    for model in asked.models:
        kept(f"{model} ptq 0", lambda m=model: drop(m, "ptq", 0, splits))  # whose file is timed
        kept(f"{model} speed", lambda m=model: speed(m, splits))
    for scheme in schemes():
        for seed in range(asked.seeds):
            for model in asked.models:
                name = f"{model} {scheme} {seed}"
                kept(name, lambda m=model, c=scheme, s=seed: drop(m, c, s, splits))


def kept(name: str, measure: Callable[[], Row]) -> None:
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
    model = fashion.teacher(splits)[0] if name == "teacher" else fashion.student(splits)
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
    budget = load_params(fashion.RECIPE).budget
    figures = quantize(params, budget.max_accuracy_drop, budget.max_class_recall_drop, seed, files)
    right = [correct(file, splits) for file in (source / "model.onnx", target / "quantized" / "model.onnx")]
    np.save(target / "right.npy", np.stack(right))
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
        **{key: value for key, value in figures.items() if key.removeprefix("accuracy_") in ARITHMETICS},
        "cpu_s": round(time.process_time() - begun, 1),
    }


def pooled(rows: list[Row]) -> list[Row]:
    """Per model and scheme, the drop's mean over the seeds and its upper one-sided 95 % limit, by samples."""
    runs = dict[tuple[str, str], list[Row]]()
    for row in rows:
        runs.setdefault((row["model"], row["scheme"]), []).append(row)
    return [{"kind": "mean", "model": model, "scheme": scheme, **_mean(own)} for (model, scheme), own in runs.items()]


def _mean(runs: list[Row]) -> Row:
    files = [WORK / f"{row['model']} {row['scheme'].replace('/', '')} {row['seed']}" / "right.npy" for row in runs]
    lost = np.mean([np.subtract(*np.load(file).astype(float)) for file in files], axis=0)
    error = norm.isf(ALPHA) * lost.std(ddof=1) / np.sqrt(len(lost))
    return {
        "seeds": len(runs),
        "drop": float(lost.mean()),
        "drop_upper95": float(lost.mean() + error),
        "integer_op_share": min(row["integer_op_share"] for row in runs),
        "smaller": min(row["size_bytes_float"] / row["size_bytes"] for row in runs),
    }


def correct(file: Path, splits: Splits) -> Any:
    """Which test samples the file gets right."""
    return run(open_session(file), splits.test).argmax(1) == splits.test.targets(slice(None)).numpy()


def exported(model: str, splits: Splits, file: Path) -> Path:
    """The float model as PyTorch's exporter leaves it, with any batch: what a peer's user begins with."""
    example = (splits.validation.inputs(slice(0, 2)),)
    torch.onnx.export(
        checkpoint.load(float_model(model, splits), splits.card).eval(),
        example,
        file,
        dynamo=True,
        external_data=False,
        input_names=["x"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    return file


def speed(model: str, splits: Splits) -> Row:
    """All files of one float model in turns, by ONNX Runtime and, where it can be installed, by OpenVINO.

    The peers begin with PyTorch's export, and a second time with our float file.
    """
    source = float_model(model, splits) / "model.onnx"
    place = WORK / f"{model} peers"
    place.mkdir(exist_ok=True)
    begins = {"": exported(model, splits, place / "exported.onnx"), OUR_FLOAT: source}
    x = splits.train.first(PEER_SAMPLES, 0).inputs(slice(None)).numpy()
    np.save(place / "calibration.npy", x)
    np.save(place / "test.npy", splits.test.inputs(slice(None)).numpy())
    np.save(place / "labels.npy", splits.test.targets(slice(None)).numpy())
    files = {"float": source, "ours": WORK / f"{model} ptq 0" / "quantized" / "model.onnx"}
    failures = dict[str, str]()
    for end, begin in begins.items():
        for name, make in ORT.items():
            files[name + end] = place / f"{name}{end}.onnx"
            make(begin, files[name + end], Reader(x))
        for name, (script, packages, suffix) in SCRIPTS.items():
            target = place / f"{name}{end}{suffix}"
            failed = by_peer(script, packages, begin, place / "calibration.npy", target)
            if failed:
                failures[name + end] = failed
            else:
                files[name + end] = target
    served = {name: file for name, file in files.items() if file.suffix == ".onnx"}
    both = {name: str(file) for name, file in files.items() if name in ("float", "ours") or file.suffix == ".xml"}
    return {
        "kind": "speed",
        "model": model,
        "onnxruntime": medians([by_runtime(served, splits) for _ in range(OPENINGS)]),
        "openvino": medians([by_openvino(both, place) for _ in range(OPENINGS)]) if len(both) > 2 else None,
        "size_bytes": {name: deployed_bytes(file) for name, file in files.items()},
        "versions": {name: versions(*SCRIPTS[name][:2]) for name in SCRIPTS if name not in failures},
        "failed": failures,
    }


def by_runtime(files: dict[str, Path], splits: Splits) -> dict[str, Row]:
    """Medians in ms at batch 1 and 256, and accuracy."""
    calls = {name: open_onnxruntime(file) for name, file in files.items()}
    found = take_turns(calls, splits.test.inputs(slice(0, BATCH)).numpy(), ROUNDS, RUNS, BATCH_RUNS)
    return {
        name: {
            "b1_ms": 1000 * float(np.median(found[name].single)),
            f"b{BATCH}_ms": 1000 * float(np.median(found[name].whole)),
            "accuracy": float(correct(file, splits).mean()),
        }
        for name, file in files.items()
    }


def medians(found: list[dict[str, Row]]) -> dict[str, Row]:
    """Of each file's figures, over the times it was opened."""
    return {
        name: {key: float(np.median([own[name][key] for own in found])) for key in figures}
        for name, figures in found[0].items()
    }


def drop_lines(row: Row) -> list[Row]:
    """What the table says of one of our files."""
    figures = {
        "drop, pp": 100 * row["drop"],
        "upper 95 %, pp": 100 * row["drop_upper95"],
        "bytes": row["size_bytes"],
        "smaller": row["size_bytes_float"] / row["size_bytes"],
        "integer": row["integer_op_share"],
    }
    return [{"model": row["model"], "scheme": row["scheme"], "seed": row["seed"], **figures}]


def speed_lines(row: Row) -> list[Row]:
    """What the table says of every file that was timed, and of every peer that failed."""
    timed = [
        {"model": row["model"], "runtime": runtime, "file": name, **figures, "bytes": row["size_bytes"][name]}
        | {"versions": row["versions"].get(name.removesuffix(OUR_FLOAT), "")}
        for runtime in ("onnxruntime", "openvino")
        for name, figures in (row[runtime] or {}).items()
    ]
    return [*timed, *({"model": row["model"], "file": name, "versions": why} for name, why in row["failed"].items())]


def summarise() -> None:
    """A table and the results file of the rows measured so far."""
    rows = [json.loads(path.read_text()) for path in sorted(WORK.glob("*.json"))]
    rows += pooled([row for row in rows if row["kind"] == "drop"])
    for kind, shown in (("drop", drop_lines), ("speed", speed_lines)):
        lines = [line for row in rows if row["kind"] == kind for line in shown(row)]
        print(tabulate(lines, headers="keys", floatfmt=".4g"), end="\n\n")
    print(tabulate([row for row in rows if row["kind"] == "mean"], headers="keys", floatfmt=".4g"))
    print(", ".join(f"{name} {value}" for name, value in fashion.environment().items()))
    fashion.keep("quantization", sorted({row["seed"] for row in rows if row["kind"] == "drop"}), rows, headline(rows))


if __name__ == "__main__":
    main()
