"""distill: the student, the losses towards the teacher, and how often all of it is repeated."""

from __future__ import annotations

from typing import Annotated

from pydantic import Discriminator, Field, Tag, model_validator

from tasks.params.section import Count, Factory, Fraction, NonNegative, Section
from tasks.params.students import PrunedTeacher, Student
from tasks.params.training import Answers, Auto, Clean, Kd, Losses, Train, refuse_unkept


class Probe(Section):
    """The short trainings by which `losses: auto` chooses: the last of them takes `share` of the epochs."""

    share: Fraction = 0.25


class Assistant(Section):
    """A network of a size between teacher and student, which learns first and then teaches.

    Mirzadeh et al. 2020, arXiv:1902.03393. teaches: false leaves that to the teacher; the student is then cut from it.
    """

    model: Factory
    train: Train = Train()
    teaches: bool = True


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

    @property
    def cuts_assistant(self) -> bool:
        """Whether the student is the assistant, cut down."""
        return isinstance(self.model, PrunedTeacher) and self.model.origin == "assistant"

    @model_validator(mode="after")
    def _assistant_is_of_use(self) -> Distill:
        if self.cuts_assistant and self.assistant is None:
            raise ValueError("model.origin is assistant, and assistant is null; name one, or set origin: teacher")
        if self.assistant and not self.assistant.teaches and not self.cuts_assistant:
            raise ValueError(
                "assistant.teaches is false, and no student is cut from it; set teaches: true, or "
                "model: {method: pruned_teacher, origin: assistant, ...}"
            )
        return self

    @model_validator(mode="after")
    def _answers_suffice(self) -> Distill:
        losses = () if self.losses == "auto" else self.losses
        if any(loss.method == "mutual" for loss in losses) and len(losses) > 1:
            raise ValueError("losses name mutual beside others; a peer teaches alone: name only mutual")
        refuse_unkept(losses, self.answers, self.train.augment)
        return self
