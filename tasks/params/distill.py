"""distill: the student, the losses towards the teacher, and how often all of it is repeated."""

from __future__ import annotations

from typing import Annotated

from pydantic import Discriminator, Field, Tag, model_validator

from tasks.params.section import Count, Factory, Fraction, NonNegative, Section
from tasks.params.students import Student
from tasks.params.training import Answers, Auto, Clean, Kd, Losses, Train, refuse_unkept


class Probe(Section):
    """The short trainings by which `losses: auto` chooses: the last of them takes `share` of the epochs."""

    share: Fraction = 0.25


class Assistant(Section):
    """A network of a size between teacher and student, which learns first and then teaches.

    Mirzadeh et al. 2020, arXiv:1902.03393.
    """

    model: Factory
    train: Train = Train()


def _kind(losses: object) -> str:
    return "auto" if isinstance(losses, str) else "listed"


LossesOrAuto = Annotated[
    Annotated[Losses, Tag("listed")] | Annotated[Auto, Tag("auto")],
    Discriminator(_kind),
]


class Distill(Section):
    """`seeds` trainings of the student with its teacher, and as many alone; the first pair is passed on.

    teachers: folders of further models (model.json and weights.safetensors) whose logits are averaged in.
    generations: how often the student teaches a fresh copy of itself, beside once (born-again networks,
    Furlanello et al. 2018, arXiv:1805.04770).
    """

    model: Student
    teachers: Annotated[tuple[str, ...], Field(strict=False)] = ()
    assistant: Assistant | None = None
    generations: Count = 1
    losses: LossesOrAuto = (Kd(method="kd"),)
    probe: Probe = Probe()
    target_weight: NonNegative = 0.1
    answers: Answers = Clean(mode="clean")
    seeds: Count = 1
    train: Train = Train()

    @model_validator(mode="after")
    def _answers_suffice(self) -> Distill:
        losses = () if self.losses == "auto" else self.losses
        if any(loss.method == "mutual" for loss in losses) and len(losses) > 1:
            raise ValueError("losses name mutual beside others; a peer teaches alone: name only mutual")
        refuse_unkept(losses, self.answers, self.train.augment)
        return self
