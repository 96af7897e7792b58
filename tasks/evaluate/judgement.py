"""All that is known of each variant, the checks it must pass, and the sentence that sums them up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import numpy as np

from tasks.data.dataset import Card
from tasks.evaluate import gate
from tasks.evaluate.behaviour import REFERENCE, Comparison, behaviour_checks
from tasks.evaluate.elsewhere import Elsewhere, elsewhere_checks
from tasks.evaluate.figures import Quality
from tasks.evaluate.variants import PARENTS, Cost
from tasks.export.packed import packed
from tasks.measure.confidence import Confidence
from tasks.measure.integers import integer_op_share, operations
from tasks.params import Budget
from tasks.report.variants import candidate

FINAL: Final = "quantized"


@dataclass(frozen=True)
class Measured:
    """One variant. train_accuracy: on a part of the training split.

    uncalibrated: how sure it would be without the temperature in its file, where there is one.
    """

    quality: Quality
    found: Comparison
    cost: Cost
    train_accuracy: float
    elsewhere: Elsewhere
    uncalibrated: Confidence | None = None


def checks_of(
    name: str, measured: Mapping[str, Measured], card: Card, samples: int, budget: Budget
) -> list[gate.Check]:
    """What the budget says of a variant; samples: of the test split."""
    own, latency = measured[name], measured[name].cost.timing.latency_ms_p50
    checks = [gate.accuracy_check(own.found.drop, samples, budget)]
    if budget.max_class_recall_drop is not None:
        recalls = zip(measured[REFERENCE].quality.recall, own.quality.recall, strict=True)
        lost = [before - after for before, after in recalls]
        checks.append(gate.class_check(lost, own.quality.support, card.classes, budget.max_class_recall_drop))
    checks += behaviour_checks(own.found, budget, samples)
    checks += elsewhere_checks(own.elsewhere, budget)
    checks += gate.cost_checks(own.cost.size_bytes, latency, budget)
    if above := ancestors(name):
        took = {other: measured[other].cost.timing.latency_ms_p50 for other in above}
        fastest = min(above, key=took.__getitem__)
        checks.append(gate.parent_check(latency, took[fastest], fastest))
    return checks


def ancestors(name: str) -> list[str]:
    """What the variant was made from, its parent first, and what that was made from in turn."""
    parent = PARENTS[name]
    return [] if parent is None else [parent, *ancestors(parent)]


def row(
    name: str, folder: Path, measured: Mapping[str, Measured], card: Card, checks: Sequence[gate.Check]
) -> dict[str, Any]:
    """The variant in summary.json."""
    own, found = measured[name].quality, measured[name].found
    lost = np.subtract(measured[REFERENCE].quality.recall, own.recall)
    worst, reference = int(lost.argmax()), name == REFERENCE
    return {
        "name": name,
        "file": f"artifacts/{folder.name}/model.onnx",
        "parent": PARENTS[name],
        "accuracy": own.accuracy,
        "accuracy_drop": found.drop.drop,
        "accuracy_drop_upper95": 0.0 if reference else found.drop.upper95,
        "accuracy_drop_bootstrap05": found.bootstrap[0],
        "accuracy_drop_bootstrap95": found.bootstrap[1],
        "mcnemar_p": found.drop.mcnemar_p,
        "precision_macro": own.precision_macro,
        "recall_macro": own.recall_macro,
        "f1_macro": own.f1_macro,
        "worst_class": card.classes[worst],
        "worst_class_recall_drop": float(lost[worst]),
        "agreement": found.agreement,
        "negative_flips": found.drop.negative_flips,
        "positive_flips": found.drop.positive_flips,
        **asdict(found.confidence),
        **_uncalibrated(measured[name].uncalibrated),
        "train_accuracy": measured[name].train_accuracy,
        "train_test_gap": measured[name].train_accuracy - own.accuracy,
        **_elsewhere(measured[name].elsewhere),
        "slices": [asdict(one) for one in found.slices],
        "packed_bytes": len(packed((folder / "model.onnx").read_bytes())),
        "integer_op_share": integer_op_share(operations(folder / "model.onnx")),
        **measured[name].cost.figures(),
        "gate": "reference" if reference else gate.overall(checks),
        "checks": [asdict(check) for check in checks],
    }  # fmt: skip


def _uncalibrated(found: Confidence | None) -> dict[str, float]:
    return {f"{key}_uncalibrated": value for key, value in asdict(found).items()} if found else {}


def _elsewhere(found: Elsewhere) -> dict[str, Any]:
    figures = dict[str, Any]()
    if found.corruptions:
        figures["corruption_accuracy"] = found.corruption_accuracy
        figures["corruption_drop"] = fmean(one.drop for one in found.corruptions)
        figures["corruptions"] = [asdict(one) for one in found.corruptions]
    if found.shifted:
        figures["shifted_accuracy"], figures["shifted_drop"] = found.shifted_accuracy, found.shifted.drop
        figures["shifted_drop_upper95"] = found.shifted.upper95
    return figures


def verdict(variants: Sequence[Mapping[str, Any]]) -> str:
    """The whole run in a sentence: within the budget or not, why, and what would decide an open case."""
    by_name, best = {row["name"]: row for row in variants}, candidate(variants)
    teacher, final = by_name[REFERENCE], by_name[FINAL]
    smaller = teacher["size_bytes"] / final["size_bytes"]
    faster = teacher["latency_ms_p50"] / final["latency_ms_p50"]
    outcome = {"pass": "is within the budget", "fail": "is NOT within the budget", "inconclusive": "is not proven"}
    return (
        f"The {FINAL} model {outcome[final['gate']]}{_reasons(final)}: "
        f"{smaller:.1f}x smaller and {faster:.1f}x faster at batch 1 than the {REFERENCE}, "
        f"accuracy {100 * final['accuracy']:.2f} % against {100 * teacher['accuracy']:.2f} %, "
        f"a drop of at most {100 * final['accuracy_drop_upper95']:.2f} pp with 95 % confidence."
        f"{'' if best == FINAL else f' The candidate is {best}.' if best else ' No variant is a candidate.'}"
    )


def _reasons(final: Mapping[str, Any]) -> str:
    """The checks that decided: those that failed, else the open ones with the samples that would settle them."""
    decisive = [check for check in final["checks"] if check["verdict"] == final["gate"] != "pass"]
    texts = [
        check["name"] + (f", {check['decides']:,} samples would decide" if check["decides"] else "")
        for check in decisive
    ]
    return f" ({'; '.join(texts)})" if texts else ""
