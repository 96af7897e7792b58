"""prune: criteria, schedules, targets and recovery."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tasks.params.section import Count, NonNegative, Section, Share
from tasks.params.training import Answers, Clean, Kd, Losses, Train, refuse_unkept


class Random(Section):
    method: Literal["random"]


class L1(Section):
    method: Literal["l1"]


class L2(Section):
    method: Literal["l2"]


class BnScale(Section):
    method: Literal["bn_scale"]


class Taylor(Section):
    method: Literal["taylor"]


class Fpgm(Section):
    method: Literal["fpgm"]


class Lamp(Section):
    method: Literal["lamp"]


class Wanda(Section):
    method: Literal["wanda"]


Criterion = Annotated[Random | L1 | L2 | BnScale | Taylor | Fpgm | Lamp | Wanda, Field(discriminator="method")]
ChannelCriterion = Annotated[Random | L1 | L2 | BnScale | Taylor | Fpgm, Field(discriminator="method")]
WeightCriterion = Annotated[Random | L1 | L2 | Taylor | Lamp | Wanda, Field(discriminator="method")]
Names = Annotated[tuple[str, ...], Field(strict=False)]


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


class Subset(Section):
    """How many samples of the validation split the scan looks at."""

    samples: Count = 1000


class ChannelTarget(Section):
    """Share of the dense model's multiply-accumulates or parameters that is left."""

    macs: Share | None = None
    parameters: Share | None = None

    @model_validator(mode="after")
    def _one_measure(self) -> ChannelTarget:
        if (self.macs is None) == (self.parameters is None):
            raise ValueError("give exactly one of macs and parameters")
        return self


class Protect(Section):
    """Layers that keep all their channels: the first one, and the last one before the output."""

    first: bool = False
    last: bool = False


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
    target: ChannelTarget
    criterion: ChannelCriterion = L2(method="l2")
    scope: Literal["sensitivity", "uniform", "global"] = "sensitivity"
    schedule: Schedule = Linear(method="linear")
    sensitivity: Sensitivity = Sensitivity()
    round_to: Count = 4
    ignore: Names = ()
    protect: Protect = Protect()
    recalibrate: bool = True
    compensate: bool = False
    calibration_samples: Count = 256
    recovery: Recovery = Recovery()


class UnstructuredPruning(Section):
    pattern: Literal["unstructured"]
    target: SparsityTarget
    criterion: WeightCriterion = L1(method="l1")
    schedule: Schedule = Cubic(method="cubic")
    sensitivity: Sensitivity = Sensitivity()
    ignore: Names = ()
    recalibrate: bool = True
    calibration_samples: Count = 256
    recovery: Recovery = Recovery()


class NmPruning(Section):
    """Of every `m` weights that follow each other along the inputs, `n` stay."""

    pattern: Literal["n_m"]
    n: Count = 2
    m: Count = 4
    criterion: WeightCriterion = L1(method="l1")
    schedule: Schedule = OneShot(method="one_shot")
    sensitivity: Subset = Subset()
    ignore: Names = ()
    recalibrate: bool = True
    calibration_samples: Count = 256
    recovery: Recovery = Recovery()

    @model_validator(mode="after")
    def _some_go(self) -> NmPruning:
        if self.n >= self.m:
            raise ValueError(f"n is {self.n} and m is {self.m}; n of every m weights stay, so n must be below m")
        return self


Prune = Annotated[ChannelPruning | UnstructuredPruning | NmPruning, Field(discriminator="pattern")]
