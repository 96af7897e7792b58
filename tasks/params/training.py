"""teacher and distill: the training loop and the distillation losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from tasks.params.section import Count, Factory, NonNegative, Positive, Section, Share


class Augment(Section):
    """Image augmentation, drawn anew for every sample and epoch; sizes in pixels.

    mixup, cutmix: parameter of the Beta distribution by which pairs are mixed; 0 is off, 1 is uniform.
    """

    shift: Annotated[int, Field(ge=0)] = 0
    flip: bool = False
    cutout: Annotated[int, Field(ge=0)] = 0
    mixup: NonNegative = 0.0
    cutmix: NonNegative = 0.0


class Train(Section):
    """One training: linear warm-up to `lr` over `warmup` of the steps, then down to zero by the schedule.

    patience: stop after so many epochs without a better validation accuracy, and keep the best; None trains to the end.
    """

    epochs: Annotated[int, Field(ge=0)] = 10
    batch_size: Count = 128
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: Positive = 0.01
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.2
    weight_decay: NonNegative = 0.0005
    clip_norm: Positive | None = None
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    balance: bool = False
    ema: Share | None = None
    patience: Count | None = None
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    compile: bool = False
    augment: Augment = Augment()


ModuleName = Annotated[str, Field(min_length=1)]


class Kd(Section):
    method: Literal["kd"]
    temperature: Positive = 4.0
    weight: Positive = 0.9


class KdStandardised(Section):
    method: Literal["kd_standardised"]
    temperature: Positive = 2.0
    weight: Positive = 9.0


class Dkd(Section):
    """Over the first `warmup_epochs` its weight rises to `weight`.

    The paper's 20 are for 240 epochs; a training of 20 or 40 would never, or for half its time only, have all of the
    loss. So the default is none, as what is measured here was.
    """

    method: Literal["dkd"]
    temperature: Positive = 4.0
    alpha: NonNegative = 1.0
    beta: NonNegative = 8.0
    weight: Positive = 1.0
    warmup_epochs: Annotated[int, Field(ge=0)] = 0


class Dist(Section):
    method: Literal["dist"]
    temperature: Positive = 1.0
    inter: NonNegative = 1.0
    intra: NonNegative = 1.0
    weight: Positive = 2.0


class Mse(Section):
    method: Literal["mse"]
    weight: Positive = 1.0


class Mutual(Section):
    """Not a teacher but a peer: a second student, trained along and discarded after."""

    method: Literal["mutual"]
    weight: Positive = 1.0


class Fitnet(Section):
    method: Literal["fitnet"]
    student: ModuleName
    teacher: ModuleName
    weight: Positive = 100.0


class At(Section):
    method: Literal["at"]
    student: ModuleName
    teacher: ModuleName
    weight: Positive = 1000.0


def _with_weight_on_logits(given: object, weight: float) -> object:
    """What was given, with that weight where it names neither a module nor a weight."""
    if not isinstance(given, Mapping) or given.get("student") or given.get("teacher"):
        return given
    return {"weight": weight, **given}


class Sp(Section):
    """The logits stand in where no module is named; then the weight is 30, where none is given.

    With the paper's 3000, which is for features, students swapped classes (docs/decisions/0004).
    """

    method: Literal["sp"]
    student: ModuleName | None = None
    teacher: ModuleName | None = None
    weight: Positive = 3000.0

    @model_validator(mode="before")
    @classmethod
    def _lighter_on_logits(cls, given: object) -> object:
        return _with_weight_on_logits(given, 30.0)


class Rkd(Section):
    """The logits stand in where no module is named; then the weight is 0.1, where none is given, as with Sp."""

    method: Literal["rkd"]
    student: ModuleName | None = None
    teacher: ModuleName | None = None
    distance: NonNegative = 25.0
    angle: NonNegative = 50.0
    weight: Positive = 1.0

    @model_validator(mode="before")
    @classmethod
    def _lighter_on_logits(cls, given: object) -> object:
        return _with_weight_on_logits(given, 0.1)


LogitLoss = Kd | KdStandardised | Dkd | Dist | Mse | Mutual
FeatureLoss = Fitnet | At | Sp | Rkd
Loss = Annotated[LogitLoss | FeatureLoss, Field(discriminator="method")]
Auto = Literal["auto"]
Losses = Annotated[tuple[Loss, ...], Field(strict=False, min_length=1)]


class Clean(Section):
    """The teacher answers once per sample, without augmentation; kept on disk."""

    mode: Literal["clean"]


class Views(Section):
    """The teacher answers once per sample and augmented view, `count` of them; the student sees the same; on disk."""

    mode: Literal["views"]
    count: Count = 4


class Live(Section):
    """The teacher answers to the very batch that the student sees, every time; nothing is kept."""

    mode: Literal["live"]


Answers = Annotated[Clean | Views | Live, Field(discriminator="mode")]


def refuse_unkept(losses: Sequence[Loss], answers: Answers, *augments: Augment) -> None:
    """Raise ValueError where losses or augmentation need what `answers` does not keep."""
    if answers.mode == "live":
        return
    tapped = [loss.teacher for loss in losses if isinstance(loss, FeatureLoss) and loss.teacher]
    if tapped:
        raise ValueError(
            f"answers.mode is {answers.mode}, which keeps logits only; losses that compare the module "
            f"'{tapped[0]}' need answers: {{mode: live}}"
        )
    if any(augment.mixup or augment.cutmix for augment in augments):
        raise ValueError(f"answers.mode is {answers.mode}; mixup and cutmix need answers: {{mode: live}}")


class Teacher(Section):
    model: Factory
    checkpoint: str | None = None
    train: Train = Train()
