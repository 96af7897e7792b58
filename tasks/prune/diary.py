"""What each step of pruning left of the model, and whether that is within the budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from tasks.data.batches import Samples
from tasks.measure.accuracy import logits
from tasks.measure.paired import paired_drop
from tasks.measure.size import macs, nonzero, parameters

ROUNDING = 1e-9  # 49/50 - 48/50 is 0.02 and a rounding error


@dataclass(frozen=True)
class Entry:
    """One step, after its recovery; accuracies are on the validation split, drops against the teacher there.

    aim: share of what is asked for: of the way to the target, or of the multiply-accumulates that a rung leaves.
    inside: whether the drops are within the budget, the first by its upper one-sided 95 % limit.
    """

    step: str
    aim: float
    macs: int
    parameters: int
    sparsity: float
    accuracy: float
    accuracy_drop: float
    accuracy_drop_upper95: float
    class_recall_drop: float
    inside: bool


Judge = Callable[[nn.Module, str, float], Entry]


@dataclass(frozen=True)
class Limits:
    """What the budget allows of the drops that pruning may cause, in [0, 1]; None leaves the recalls alone."""

    accuracy_drop: float
    class_recall_drop: float | None


def judge_of(teacher: nn.Module, validation: Samples, limits: Limits) -> Judge:
    """The function that makes the entry of a model, a step's name and its aim."""
    targets = validation.targets(slice(None))
    taught = logits(teacher, validation).argmax(1) == targets
    classes = torch.unique(targets)

    def judge(model: nn.Module, step: str, aim: float) -> Entry:
        right = logits(model, validation).argmax(1) == targets
        drop = paired_drop(taught.numpy(), right.numpy())
        lost = [float((taught & (targets == c)).sum() - (right & (targets == c)).sum()) for c in classes]
        recall_drop = max(count / int((targets == c).sum()) for count, c in zip(lost, classes, strict=True))
        limit = np.inf if limits.class_recall_drop is None else limits.class_recall_drop
        return Entry(
            step=step,
            aim=aim,
            macs=macs(model, validation.shape),
            parameters=parameters(model),
            sparsity=1 - nonzero(model) / parameters(model),
            accuracy=float(right.float().mean()),
            accuracy_drop=drop.drop,
            accuracy_drop_upper95=drop.upper95,
            class_recall_drop=recall_drop,
            inside=drop.upper95 <= limits.accuracy_drop and recall_drop <= limit + ROUNDING,
        )

    return judge
