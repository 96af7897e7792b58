"""prune: criteria, schedules, targets and recovery."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tasks.params.section import Count, NonNegative, Section, Share
from tasks.params.training import Answers, Clean, Kd, Losses, Train, refuse_unkept


class L1(Section):
    method: Literal["l1"]


class L2(Section):
    method: Literal["l2"]


Criterion = Annotated[L1 | L2, Field(discriminator="method")]


class OneShot(Section):
    method: Literal["one_shot"]


class Linear(Section):
    method: Literal["linear"]
    steps: Count = 3


class Cubic(Section):
    method: Literal["cubic"]
    steps: Count = 5


Schedule = Annotated[OneShot | Linear | Cubic, Field(discriminator="method")]


class Sensitivity(Section):
    """The scan before pruning: each layer alone at each pruning ratio, on `samples` of the validation split."""

    ratios: Annotated[tuple[Share, ...], Field(strict=False, min_length=1)] = (0.25, 0.5, 0.75)
    samples: Count = 1000


class MacsTarget(Section):
    """Share of the dense model's multiply-accumulates that is left."""

    macs: Share


class SparsityTarget(Section):
    """Share of the weights that become zero."""

    sparsity: Share


class Recovery(Section):
    """Training after each pruning step, towards the teacher."""

    losses: Losses = (Kd(method="kd"),)
    target_weight: NonNegative = 0.1
    answers: Answers = Clean(mode="clean")
    step: Train = Train(epochs=1, lr=0.002)
    final: Train = Train(epochs=5, lr=0.005)

    @model_validator(mode="after")
    def _answers_suffice(self) -> Recovery:
        if any(loss.method == "mutual" for loss in self.losses):
            raise ValueError("losses name mutual, which learns with a peer; recovery needs the teacher")
        refuse_unkept(self.losses, self.answers, self.step.augment, self.final.augment)
        return self


class ChannelPruning(Section):
    pattern: Literal["channel"]
    target: MacsTarget
    criterion: Criterion = L2(method="l2")
    schedule: Schedule = Linear(method="linear")
    sensitivity: Sensitivity = Sensitivity()
    round_to: Count = 4
    recovery: Recovery = Recovery()


class UnstructuredPruning(Section):
    pattern: Literal["unstructured"]
    target: SparsityTarget
    criterion: Criterion = L1(method="l1")
    schedule: Schedule = Cubic(method="cubic")
    sensitivity: Sensitivity = Sensitivity()
    recovery: Recovery = Recovery()


Prune = Annotated[ChannelPruning | UnstructuredPruning, Field(discriminator="pattern")]
