"""evaluate: every file that ships on the untouched test split, against the teacher and the budget."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tasks.data.dataset import load_dataset
from tasks.data.splits import Splits, load_splits
from tasks.evaluate import gate
from tasks.evaluate.behaviour import REFERENCE, Comparison, behaviour_checks, compare
from tasks.evaluate.environment import environment
from tasks.evaluate.figures import Quality, quality
from tasks.evaluate.groups import Right, slice_members
from tasks.evaluate.variants import PARENTS, Cost, answers, costs
from tasks.export.packed import packed
from tasks.files import Files
from tasks.measure.integers import integer_op_share, operations
from tasks.params import Budget, Evaluate
from tasks.report.html import render_report
from tasks.report.plots import write_plots
from tasks.report.variants import candidate
from tasks.training.curves import read_curves

FINAL: Final = "quantized"
LOGGED: Final = (
    *("accuracy", "accuracy_drop", "f1_macro", "agreement", "negative_flips", "nll", "brier", "ece"),
    *("size_bytes", "macs", "latency_ms_p50"),
)


def evaluate(params: Evaluate, budget: Budget, seed: int, files: Files) -> dict[str, float]:
    """Measure all variants, judge each by the budget, and write summary, report and plots."""
    data = load_splits(files.reads)
    folders = {name: files.reads[name] for name in PARENTS}
    probabilities = answers(folders, data.test)
    predicted = {name: found.argmax(1) for name, found in probabilities.items()}
    cost, eager = costs(folders, data.card, data.test, params)
    targets = data.test.targets(slice(None)).numpy()
    figures = {name: quality(targets, labels, len(data.card.classes)) for name, labels in predicted.items()}
    slices = _slices(params, files, data)
    found = {name: compare(name, probabilities, targets, data.card.classes, slices) for name in PARENTS}
    variants = []
    for name in PARENTS:
        checks = [] if name == REFERENCE else _checks(name, budget, figures, found[name], cost, data)
        variants.append(_row(name, folders[name], figures, found[name], cost[name], data, checks))
    summary = {
        "reference": REFERENCE,
        "final": FINAL,
        "verdict": _verdict(variants),
        "seed": seed,
        "data": _data(data),
        "variants": variants,
        "eager_teacher": asdict(eager),
        "smallest_detectable_drop": found[FINAL].drop.smallest_detectable,
        "environment": environment(),
    }
    details = _details(files, data, targets, predicted, figures)
    files.writes["summary"].write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    files.writes["report"].write_text(render_report(summary, details), encoding="utf-8")
    files.writes["plots"].mkdir()
    write_plots(summary, details, files.writes["plots"])
    return {f"{row['name']}/{key}": row[key] for row in variants for key in LOGGED}


def _slices(params: Evaluate, files: Files, data: Splits) -> dict[str, Right]:
    """Of the columns that evaluate.slices and the data's card name."""
    columns = list(dict.fromkeys([*data.card.slices, *params.slices]))
    return slice_members(load_dataset(files.reads["data"]).table(), columns, data.test.indices) if columns else {}


def _checks(
    name: str, budget: Budget, figures: Mapping[str, Quality], found: Comparison, cost: Mapping[str, Cost], data: Splits
) -> list[gate.Check]:
    own, latency = figures[name], cost[name].timing.latency_ms_p50
    checks = [gate.accuracy_check(found.drop, len(data.test), budget)]
    if budget.max_class_recall_drop is not None:
        lost = [before - after for before, after in zip(figures[REFERENCE].recall, own.recall, strict=True)]
        checks.append(gate.class_check(lost, own.support, data.card.classes, budget.max_class_recall_drop))
    checks += behaviour_checks(found, budget, len(data.test))
    if budget.max_size_bytes is not None:
        checks.append(gate.limit_check("size_bytes", cost[name].size_bytes, budget.max_size_bytes, "model.onnx"))
    if budget.max_latency_ms is not None:
        checks.append(gate.limit_check("latency_ms_p50", latency, budget.max_latency_ms, "batch 1, one thread"))
    if parent := PARENTS[name]:
        checks.append(gate.parent_check(latency, cost[parent].timing.latency_ms_p50, parent))
    return checks


def _row(
    name: str,
    folder: Path,
    figures: Mapping[str, Quality],
    found: Comparison,
    cost: Cost,
    data: Splits,
    checks: list[gate.Check],
) -> dict[str, Any]:
    own, drop = figures[name], found.drop
    lost = np.subtract(figures[REFERENCE].recall, own.recall)
    worst = int(lost.argmax())
    return {
        "name": name,
        "file": f"artifacts/{folder.name}/model.onnx",
        "parent": PARENTS[name],
        "accuracy": own.accuracy,
        "accuracy_drop": drop.drop,
        "accuracy_drop_upper95": drop.upper95 if name != REFERENCE else 0.0,
        "mcnemar_p": drop.mcnemar_p,
        "precision_macro": own.precision_macro,
        "recall_macro": own.recall_macro,
        "f1_macro": own.f1_macro,
        "worst_class": data.card.classes[worst],
        "worst_class_recall_drop": float(lost[worst]),
        "agreement": found.agreement,
        "negative_flips": drop.negative_flips,
        "positive_flips": drop.positive_flips,
        **asdict(found.confidence),
        "slices": [asdict(one) for one in found.slices],
        "packed_bytes": len(packed((folder / "model.onnx").read_bytes())),
        "integer_op_share": integer_op_share(operations(folder / "model.onnx")),
        **cost.figures(),
        "gate": "reference" if name == REFERENCE else gate.overall(checks),
        "checks": [asdict(check) for check in checks],
    }


def _verdict(variants: list[dict[str, Any]]) -> str:
    by_name, best = {row["name"]: row for row in variants}, candidate(variants)
    teacher, final = by_name[REFERENCE], by_name[FINAL]
    smaller = teacher["size_bytes"] / final["size_bytes"]
    faster = teacher["latency_ms_p50"] / final["latency_ms_p50"]
    outcome = {"pass": "is within the budget", "fail": "is NOT within the budget", "inconclusive": "is not proven"}
    reasons = ", ".join(check["name"] for check in final["checks"] if check["verdict"] != "pass")
    return (
        f"The {FINAL} model {outcome[final['gate']]}{f' ({reasons})' if reasons else ''}: "
        f"{smaller:.1f}x smaller and {faster:.1f}x faster at batch 1 than the {REFERENCE}, "
        f"accuracy {100 * final['accuracy']:.2f} % against {100 * teacher['accuracy']:.2f} %, "
        f"a drop of at most {100 * final['accuracy_drop_upper95']:.2f} pp with 95 % confidence."
        f"{'' if best == FINAL else f' The candidate is {best}.' if best else ' No variant is a candidate.'}"
    )


def _data(data: Splits) -> dict[str, object]:
    return {
        "name": data.card.name,
        "sha256": data.card.sha256,
        "samples": data.card.samples,
        "train": len(data.train),
        "validation": len(data.validation),
        "test": len(data.test),
        "coreset": len(data.coreset),
    }


def _details(
    files: Files,
    data: Splits,
    targets: npt.NDArray[np.int64],
    predicted: Mapping[str, npt.NDArray[np.int64]],
    figures: Mapping[str, Quality],
) -> dict[str, Any]:
    """What the report draws beside the summary."""
    trained = ("teacher", "student_alone", "student", "pruned")
    keep = ("confusion", "precision", "recall", "f1", "support")
    return {
        "classes": list(data.card.classes),
        "per_variant": {name: {key: asdict(own)[key] for key in keep} for name, own in figures.items()},
        "predictions": {"actual": targets.tolist(), "predicted": predicted[FINAL].tolist()},
        "histories": {name: read_curves(files.reads[name] / "training.csv") for name in trained},
        "sensitivity": _read_rows(files.reads["pruned"] / "sensitivity.csv"),
        "diary": _read_rows(files.reads["pruned"] / "diary.csv"),
        "distillation": json.loads((files.reads["student"] / "comparison.json").read_text(encoding="utf-8")),
        "coreset": _read_coreset(files.reads["coreset"]),
        "quantization": json.loads((files.reads["quantized"] / "quantization.json").read_text(encoding="utf-8")),
    }


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
