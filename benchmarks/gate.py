"""How often the gate is wrong: drawn pairs of models whose true difference is known, judged by the gate's own checks.

python benchmarks/gate.py
"""

from __future__ import annotations

from math import ceil
from statistics import fmean
from typing import Any, Final

import fashion
import numpy as np
import numpy.typing as npt

from tasks.evaluate.gate import accuracy_check, significance_check
from tasks.evaluate.groups import compare_groups
from tasks.measure.paired import Z_DETECT, paired_drop
from tasks.params import Budget

DRAWS: Final = 1000  # of ten classes
PAIRS: Final = 4000  # of accuracies, so that chance moves a rate of 5 % by 0.3 points
FACTORS: Final = (1, 1.25, 2)
SEED: Final = 0
# (share of samples that exactly one of the two answers rightly, margin)
SETTINGS: Final = ((0.02, 0.005), (0.04, 0.01), (0.05, 0.03))
CLASSES: Final = 10
CLASS_SIZES: Final = (100, 200, 400)
CHURN: Final = 0.02  # of a class is lost by chance and as much gained
CLASS_LOSS: Final = 0.1  # of the planted class, on top
SIGNIFICANT: Final = 0.02  # budget.max_significant_drop

Right = npt.NDArray[np.bool_]


def answers(lost: int, gained: int, n: int) -> tuple[Right, Right]:
    """Whether the reference and the model are right on n samples."""
    place = np.arange(n)
    return ~((place >= lost) & (place < lost + gained)), place >= lost


def passes(n: int, disagreement: float, drop: float, margin: float, rng: np.random.Generator) -> float:
    """Share of draws that the accuracy check passes."""
    budget = Budget(max_accuracy_drop=margin)
    shares = [(disagreement + drop) / 2, (disagreement - drop) / 2, 1 - disagreement]
    verdicts = [
        accuracy_check(paired_drop(*answers(lost, gained, n)), n, budget).verdict
        for lost, gained, _ in rng.multinomial(n, shares, PAIRS)
    ]
    return verdicts.count("pass") / PAIRS


def accuracy_rows(rng: np.random.Generator) -> list[dict[str, Any]]:
    """At the sample count where the detectable drop is the margin, and at FACTORS of it."""
    rows = []
    for disagreement, margin in SETTINGS:
        least = ceil(disagreement * (Z_DETECT / margin) ** 2)
        for factor in FACTORS:
            n = ceil(factor * least)
            rows.append(
                {
                    "check": "accuracy_drop_upper95",
                    "samples": n,
                    "disagreement": disagreement,
                    "margin": margin,
                    "detectable_drop": Z_DETECT * (disagreement / n) ** 0.5,
                    "false_pass_rate": passes(n, disagreement, margin, margin, rng),
                    "true_pass_rate": passes(n, disagreement, 0.0, margin, rng),
                }
            )
    return rows


def class_row(size: int, rng: np.random.Generator) -> dict[str, Any]:
    """A class loses CLASS_LOSS and the others gain as much between them: overall accuracy stays."""
    membership = {str(label): np.repeat(np.arange(CLASSES) == label, size) for label in range(CLASSES)}

    def failed(planted: float) -> list[str | None]:
        """The failed check's note, draw by draw."""
        notes: list[str | None] = []
        for _ in range(DRAWS):
            lost = rng.binomial(size, [CHURN + planted, *[CHURN] * (CLASSES - 1)])
            gained = rng.binomial(size, [CHURN, *[CHURN + planted / (CLASSES - 1)] * (CLASSES - 1)])
            pairs = [answers(*pair, size) for pair in zip(lost, gained, strict=True)]
            reference, right = (np.concatenate(part) for part in zip(*pairs, strict=True))
            check = significance_check("class", compare_groups(membership, reference, right), SIGNIFICANT)
            notes.append(check.note if check.verdict == "fail" else None)
        return notes

    found = sum(note is not None and "class 0 lost" in note for note in failed(CLASS_LOSS))
    false = sum(note is not None for note in failed(0.0))
    return {
        "check": "class_mcnemar_p",
        "samples_per_class": size,
        "class_loss": CLASS_LOSS,
        "classwise_detection_rate": found / DRAWS,
        "classwise_false_alarm_rate": false / DRAWS,
    }


def main() -> None:
    """The headline: false passes over all settings, as the worst of nine is high by chance alone; true ones, the worst.

    Of an equal model where the detectable drop is at most 0.9 margins; of classes, the largest size.
    """
    rng = np.random.default_rng(SEED)
    overall, by_class = accuracy_rows(rng), [class_row(size, rng) for size in CLASS_SIZES]
    for row in [*overall, *by_class]:
        print("  ".join(f"{key} {value:.4g}" if key != "check" else str(value) for key, value in row.items()))
    able = [row for row in overall if row["detectable_drop"] <= 0.9 * row["margin"]]
    headline = {
        "false_pass_rate": fmean(row["false_pass_rate"] for row in overall),
        "false_pass_rate_worst_setting": max(row["false_pass_rate"] for row in overall),
        "true_pass_rate": min(row["true_pass_rate"] for row in able),
        "true_pass_rate_where_detectable_is_margin": min(row["true_pass_rate"] for row in overall),
        "classwise_detection_rate": by_class[-1]["classwise_detection_rate"],
        "draws_per_setting": PAIRS,
    }
    fashion.keep("gate", [SEED], [*overall, *by_class], headline)


if __name__ == "__main__":
    main()
