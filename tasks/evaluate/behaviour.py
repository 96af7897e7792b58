"""A file beside the reference, sample by sample: what it lost, for whom, and how sure it is of itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from tasks.evaluate import gate
from tasks.evaluate.groups import Group, Right, class_members, compare_groups
from tasks.evaluate.variants import PARENTS, trained
from tasks.measure.confidence import Confidence, confidence, reliability
from tasks.measure.paired import Drop, bootstrap_interval, paired_drop
from tasks.params import Budget

REFERENCE: Final = "teacher"
Probabilities = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """agreement: share of equal answers; parent_agreement: with the float model, of a quantized file alone.

    bootstrap: see bootstrap_interval; reliability: see there.
    """

    drop: Drop
    bootstrap: tuple[float, float]
    agreement: float
    parent_agreement: float | None
    confidence: Confidence
    reliability: list[tuple[float, float, int]]
    ece_increase: float
    classes: list[Group]
    slices: list[Group]


def compare(
    name: str,
    probabilities: Mapping[str, Probabilities],
    targets: npt.NDArray[np.int64],
    classes: Sequence[str],
    slices: Mapping[str, Right],
) -> Comparison:
    """`name` against the reference; probabilities: (n, classes) of each variant; slices: (n,) members of each."""
    answers = {variant: found.argmax(1) for variant, found in probabilities.items()}
    reference_right, right = answers[REFERENCE] == targets, answers[name] == targets
    own = confidence(targets, probabilities[name])
    parent = PARENTS[name] if name == "quantized" else None
    drop = paired_drop(reference_right, right)
    return Comparison(
        drop=drop,
        bootstrap=bootstrap_interval(drop, len(targets)),
        agreement=float((answers[name] == answers[REFERENCE]).mean()),
        parent_agreement=float((answers[name] == answers[parent]).mean()) if parent else None,
        confidence=own,
        reliability=reliability(targets, probabilities[name]),
        ece_increase=own.ece - confidence(targets, probabilities[REFERENCE]).ece,
        classes=compare_groups(class_members(targets, classes), reference_right, right),
        slices=compare_groups(slices, reference_right, right),
    )


def unbound(found: Comparison, quantized: Path) -> Comparison:
    """Without agreement with the float file where training followed: only the teacher's answers bind a new model."""
    return replace(found, parent_agreement=None) if trained(quantized) else found


def behaviour_checks(found: Comparison, budget: Budget, samples: int, reference: str = REFERENCE) -> list[gate.Check]:
    """What the budget says of classes, slices, agreement, flips and calibration; a limit of None asks nothing."""
    checks = []
    if budget.max_significant_drop is not None:
        checks.append(gate.significance_check("class", found.classes, budget.max_significant_drop))
        if found.slices:
            checks.append(gate.significance_check("slice", found.slices, budget.max_significant_drop))
    if budget.max_slice_drop is not None and found.slices:
        checks.append(gate.slice_check(found.slices, budget.max_slice_drop))
    if budget.min_agreement is not None:
        note = f"same answer as the {reference}"
        checks.append(gate.floor_check("agreement", found.agreement, budget.min_agreement, samples, note))
    if budget.min_parent_agreement is not None and found.parent_agreement is not None:
        limit, note = budget.min_parent_agreement, "same answer as the float model"
        checks.append(gate.floor_check("parent_agreement", found.parent_agreement, limit, samples, note))
    if budget.max_negative_flips is not None:
        flips, note = found.drop.negative_flips, f"wrong where the {reference} is right"
        checks.append(gate.ceiling_check("negative_flips", flips, budget.max_negative_flips, samples, note))
    if budget.max_ece_increase is not None:
        note = f"expected calibration error {found.confidence.ece:.4f}"
        limit = budget.max_ece_increase
        checks.append(gate.ceiling_check("ece_increase", found.ece_increase, limit, samples, note))
    return checks
