"""How well a file answers, overall and per class, alone and beside the reference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Quality:
    """Shares in [0, 1]; the lists have one entry per class, confusion one row per actual class."""

    accuracy: float
    precision_macro: float
    recall_macro: float
    f1_macro: float
    precision: list[float]
    recall: list[float]
    f1: list[float]
    support: list[int]
    confusion: list[list[int]]


def quality(targets: Labels, predicted: Labels, classes: int) -> Quality:
    """Figures of one file on the test split; a class that is never predicted has precision 0."""
    labels = range(classes)
    precision, recall, f1, support = precision_recall_fscore_support(
        targets, predicted, labels=list(labels), zero_division=0.0
    )
    return Quality(
        accuracy=float((targets == predicted).mean()),
        precision_macro=float(precision.mean()),
        recall_macro=float(recall.mean()),
        f1_macro=float(f1.mean()),
        precision=precision.tolist(),
        recall=recall.tolist(),
        f1=f1.tolist(),
        support=support.tolist(),
        confusion=confusion_matrix(targets, predicted, labels=list(labels)).tolist(),
    )
