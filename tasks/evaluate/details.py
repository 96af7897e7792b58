"""What the stages before left behind, for the report to draw beside the summary."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.evaluate.variants import PARENTS, trained
from tasks.training.curves import read_curves


def read_details(reads: Mapping[str, Path]) -> dict[str, Any]:
    """Trainings, diaries and reports, by the names that tasks/report knows them by."""
    return {
        "histories": {name: read_curves(reads[name] / "training.csv") for name in PARENTS if trained(reads[name])},
        "sensitivity": _read_rows(reads["pruned"] / "sensitivity.csv"),
        "diary": _read_rows(reads["pruned"] / "diary.csv"),
        "distillation": json.loads((reads["student"] / "comparison.json").read_text(encoding="utf-8")),
        "coreset": _read_coreset(reads["coreset"]),
        "quantization": json.loads((reads["quantized"] / "quantization.json").read_text(encoding="utf-8")),
    }


def lineage(reads: Mapping[str, Path], data_sha256: str) -> list[dict[str, str]]:
    """What was made from what, oldest first, each with the SHA-256 by which a rebuilt one can be compared."""
    coreset = next(path for name in ("indices.npz", "y.npy") if (path := reads["coreset"] / name).is_file())
    steps = [("data", "", "artifacts/data", data_sha256)]
    steps += [("split", "data", "artifacts/split.npz", _sha256(reads["split"]))]
    steps += [("coreset", "split", f"artifacts/coreset/{coreset.name}", _sha256(coreset))]
    for name, parent in PARENTS.items():
        made_from = ", ".join(filter(None, (parent, "split" if name == "teacher" else "coreset")))
        path = reads[name] / "model.onnx"
        steps.append((name, made_from, f"artifacts/{reads[name].name}/model.onnx", _sha256(path)))
    return [dict(zip(("name", "made_from", "file", "sha256"), step, strict=True)) for step in steps]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_coreset(folder: Path) -> dict[str, Any]:
    """report.json, with the dots of what was kept and dropped where the set was chosen, not made."""
    report: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    if (path := folder / "embedding.csv").is_file():
        with path.open(encoding="utf-8", newline="") as file:
            report["embedding"] = [
                {"x": float(row["x"]), "y": float(row["y"]), "class": row["class"], "kept": row["kept"] == "1"}
                for row in csv.DictReader(file)
            ]
    return report


def _read_rows(path: Path) -> list[dict[str, str | float | bool]]:
    """What pruning wrote: names as text, the rest as numbers, and whether a step was inside the budget."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            {
                key: value if key in ("layer", "step") else value == "True" if key == "inside" else float(value)
                for key, value in row.items()
            }
            for row in csv.DictReader(file)
        ]
