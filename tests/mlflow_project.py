"""A finished project in a folder: params, a small data set, five tiny ONNX variants, a summary, and an MLflow store."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import pandas as pd
from onnx import TensorProto, helper, numpy_helper

from tasks.adapters.client import mlflow_client
from tasks.data.dataset import Card, save_dataset
from tasks.files import Files
from tasks.params import Params, Tracking, load_params

PARENTS: Final = {
    "teacher": None,
    "student_alone": None,
    "student": "teacher",
    "pruned": "student",
    "quantized": "pruned",
}
PARAMS: Final = """\
seed: 7
ingest: {source: {factory: "tasks.data.sources:digits"}}
coreset: {method: random, fraction: 0.5}
teacher: {model: {factory: "my_nets:Wide", args: {width: 8}}}
distill: {model: {factory: "my_nets:Wide", args: {width: 4}}}
prune: {pattern: channel, target: {macs: 0.5}}
register: {model_name: toy}
"""


@cache
def migrated_database() -> bytes:
    """MLflow's SQLite file after its migrations, which take seconds: done once, copied for each project."""
    with tempfile.TemporaryDirectory() as folder:
        with mlflow_client(Tracking(uri=f"sqlite:///{folder}/mlflow.db"), Path(folder)) as client:
            client.search_experiments()
            client.search_registered_models()
        return (Path(folder) / "mlflow.db").read_bytes()


def make_project(root: Path, gates: Mapping[str, str] | None = None) -> Params:
    """Fill `root` with all that register reads; `gates` changes the verdicts."""
    (root / "mlflow.db").write_bytes(migrated_database())
    (root / "params.yaml").write_text(PARAMS, encoding="utf-8")
    (root / "my_nets.py").write_text("def Wide(width): ...\n", encoding="utf-8")
    make_data(root)
    for number, name in enumerate(PARENTS):
        make_variant(root / "artifacts" / name, scale=number + 1.0)
    write_summary(root, gates or {})
    write_deploy(root, {"cpu-1t": ("quantized", "onnxruntime", 1)})
    (root / "reports" / "report.html").write_text("<p>report</p>", encoding="utf-8")
    (root / "reports" / "plots").mkdir()
    (root / "reports" / "plots" / "pareto.svg").write_text("<svg/>", encoding="utf-8")
    (root / "metrics").mkdir()
    (root / "metrics" / "evaluate.json").write_text('{"quantized/accuracy": 0.96}', encoding="utf-8")
    (root / "metrics" / "prune.json").write_text('{"macs": 60.0}', encoding="utf-8")
    return load_params(root / "params.yaml")


def make_data(root: Path, seed: int = 0) -> None:
    x = np.random.default_rng(seed).integers(0, 17, (12, 1, 2, 2)).astype(np.uint8)
    card = Card(name="toy", kind="image", samples=0, input_shape=(1,), classes=("a", "b", "c"))
    table = pd.DataFrame({"id": range(12), "label": list("abc") * 4})
    save_dataset(root / "artifacts" / "data", x, np.arange(12) % 3, table, card)
    parts = {"train": range(6), "validation": range(6, 8), "test": range(8, 12)}
    np.savez(root / "artifacts" / "split.npz", **{name: np.array(part) for name, part in parts.items()})


def make_variant(folder: Path, scale: float, matrix: object = None) -> None:
    """Logits = flattened x times the (4, 3) matrix times `scale`."""
    values = np.arange(12).reshape(4, 3) if matrix is None else np.array(matrix)
    weight = numpy_helper.from_array(values.astype(np.float32) * np.float32(scale), "weight")
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "weight"], ["logits"])],
        "toy",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 1, 2, 2])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [weight],
    )
    folder.mkdir(parents=True)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), folder / "model.onnx"
    )
    deploy = {
        "inputs": [{"name": "x", "shape": ["batch", 1, 2, 2], "dtype": "float32"}],
        "outputs": [{"name": "logits", "shape": ["batch", 3], "dtype": "float32"}],
        "classes": ["a", "b", "c"],
        "columns": [],
    }
    (folder / "deploy.json").write_text(json.dumps(deploy), encoding="utf-8")
    (folder / "model.json").write_text("{}", encoding="utf-8")


def write_summary(root: Path, gates: Mapping[str, str]) -> None:
    """Each variant is smaller, faster and a little worse than the one before."""
    variants: list[dict[str, Any]] = []
    for number, (name, parent) in enumerate(PARENTS.items()):
        variants.append(
            {
                "name": name,
                "parent": parent,
                "accuracy": 1 - number / 100,
                "accuracy_drop": number / 100,
                "accuracy_drop_upper95": number / 100 + 0.02 if parent else None,
                "size_bytes": 1_234_567 // (number + 1),
                "packed_bytes": None,
                "macs": 960 // (number + 1),
                "latency_ms_p50": 1.0 / (number + 1),
                "worst_class": "b",
                "worst_class_recall_drop": number / 50,
                "slices": [],
                "gate": gates.get(name, "pass" if parent else "reference"),
                "checks": [],
            }
        )
    variants.reverse()  # register must not depend on the order
    summary = {
        "reference": "teacher",
        "final": "quantized",
        "verdict": "It is smaller.",
        "data": {"train": 6, "coreset": 3, "validation": 2, "test": 4},
        "variants": variants,
        "smallest_detectable_drop": 0.0123,
        "environment": {"cpu": "abacus"},
    }
    (root / "reports").mkdir(exist_ok=True)
    (root / "reports" / "summary.json").write_text(json.dumps(summary), encoding="utf-8")


def write_deploy(root: Path, profiles: Mapping[str, tuple[str, str, int] | None]) -> None:
    """The record of what each device is served: model, runtime and threads; ONNX Runtime would do on 3."""
    rows: list[dict[str, Any]] = []
    for name, way in profiles.items():
        served: dict[str, Any] | None = None
        if way:
            model, runtime, threads = way
            sha256 = hashlib.sha256((root / "artifacts" / model / "model.onnx").read_bytes()).hexdigest()
            served = {"model": model, "runtime": runtime, "threads": threads, "onnxruntime_threads": 3}
            served |= {"file": f"{model}/model.onnx", "sha256": sha256}
        rows.append({"name": name, "limits": {}, "served": served, "misses": [] if way else ["size"]})
    (root / "artifacts" / "deploy").mkdir(exist_ok=True)
    (root / "artifacts" / "deploy" / "deploy.json").write_text(json.dumps({"profiles": rows}), encoding="utf-8")


def register_files(root: Path) -> Files:
    variants = {name: root / "artifacts" / name for name in PARENTS}
    reads = {"data": root / "artifacts" / "data", "summary": root / "reports" / "summary.json", **variants}
    reads["deploy"] = root / "artifacts" / "deploy"
    return Files(reads, {"card": root / "reports" / "model_card.md"})


def runs(root: Path) -> tuple[list[Any], list[Any]]:
    """Parents and children, oldest first."""
    with mlflow_client(Tracking(), root) as client:
        experiment = client.get_experiment_by_name("downsize")
        found = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])
    parents = [run for run in found if run.data.tags["stage"] == "pipeline"]
    return parents, [run for run in found if run.data.tags["stage"] != "pipeline"]


def params_of(root: Path, *more: str) -> Params:
    (root / "params.yaml").write_text("\n".join([PARAMS, *more]), encoding="utf-8")
    return load_params(root / "params.yaml")


def artifacts(root: Path, run: Any) -> set[str]:
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    assert folder.is_relative_to(root / "mlruns")
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
