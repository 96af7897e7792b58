"""Training of a network that is in integers already."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tasks.params.section import NonNegative, Positive, Section
from tasks.params.training import Answers, Clean, Dist, Dkd, Kd, KdStandardised, Mse, Train, refuse_unkept

# those on features name modules, and what is trained is the file's graph, which has none
GraphLoss = Annotated[Kd | KdStandardised | Dkd | Dist | Mse, Field(discriminator="method")]


class FineTrain(Train):
    """At a hundredth of the student's rate, which is for eight bits; four and fewer want five to ten times as much."""

    epochs: Annotated[int, Field(ge=1)] = 5
    lr: Positive = 0.0001
    schedule: Literal["linear", "cosine", "constant"] = "cosine"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1


class Retraining(Section):
    """Quantization-aware training.

    towards: whose answers are learned: those of `pruned`, the float model itself, or the teacher's.
    """

    towards: Literal["pruned", "teacher"] = "pruned"
    losses: Annotated[tuple[GraphLoss, ...], Field(strict=False, min_length=1)] = (Kd(method="kd"),)
    target_weight: NonNegative = 0.1
    answers: Answers = Clean(mode="clean")
    train: FineTrain = FineTrain()

    @model_validator(mode="after")
    def _possible(self) -> Retraining:
        refuse_unkept(self.losses, self.answers, self.train.augment)
        if self.train.precision != "float32":
            raise ValueError(
                f"train.precision is {self.train.precision}; 256 levels need the digits of float32, which would do"
            )
        return self
