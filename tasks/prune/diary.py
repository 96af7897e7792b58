"""What each step of pruning left of the model, and whether that is within the budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from torch import nn

from tasks.data.batches import Samples, classes_of
from tasks.measure.accuracy import logits
from tasks.measure.budget import Limits, lost
from tasks.measure.size import macs, nonzero, parameters


@dataclass(frozen=True)
class Entry:
    """One step, after its recovery; accuracies are on the validation split, drops, as in Lost, against the teacher.

    aim: share of what is asked for: of the way to the target, or of the multiply-accumulates that a rung leaves.
    inside: whether the drops are within the budget.
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


def judge_of(teacher: nn.Module, validation: Samples, limits: Limits) -> Judge:
    """The function that makes the entry of a model, a step's name and its aim."""
    targets = classes_of(validation.targets(slice(None)))

    taught = logits(teacher, validation).argmax(1) == targets

    def judge(model: nn.Module, step: str, aim: float) -> Entry:
        right = logits(model, validation).argmax(1) == targets
        found = lost(taught.numpy(), right.numpy(), targets.numpy())
        return Entry(
            **asdict(found),
            step=step,
            aim=aim,
            macs=macs(model, validation.shape),
            parameters=parameters(model),
            sparsity=1 - nonzero(model) / parameters(model),
            accuracy=float(right.float().mean()),
            inside=found.within(limits),
        )

    return judge
