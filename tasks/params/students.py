"""distill.model: a network that a factory names, or one that is made from the teacher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Discriminator, Tag, model_validator

from tasks.params.criterion import L2, ChannelCriterion
from tasks.params.prune import PlainScope, Sensitivity
from tasks.params.section import Count, Factory, Fraction, Section, Share


class StudentTarget(Section):
    """Share of the multiply-accumulates, parameters or measured latency that is left of what is cut."""

    macs: Share | None = None
    parameters: Share | None = None
    latency: Share | None = None

    @model_validator(mode="after")
    def _one_measure(self) -> StudentTarget:
        if sum(share is not None for share in (self.macs, self.parameters, self.latency)) != 1:
            raise ValueError("give exactly one of macs, parameters and latency")
        return self

    @property
    def measure(self) -> tuple[str, float]:
        """Its name, and the share."""
        return next((name, share) for name, share in self if share is not None)


class PrunedTeacher(Section):
    """The teacher with channels cut out, its other weights kept, or with `compensate` refitted to what is left.

    origin: assistant cuts distill.assistant instead, once it has learned.
    """

    method: Literal["pruned_teacher"]
    origin: Literal["teacher", "assistant"] = "teacher"
    target: StudentTarget
    criterion: ChannelCriterion = L2(method="l2")
    scope: PlainScope = "sensitivity"
    round_to: Count = 8
    compensate: bool = False
    sensitivity: Sensitivity = Sensitivity()


class Slim(Section):
    """The teacher's architecture with fresh weights, its layers `width` as wide and `depth` as many."""

    method: Literal["slim"]
    width: Fraction
    depth: Fraction = 1.0


def _kind(student: object) -> str | None:
    if isinstance(student, Factory) or (isinstance(student, Mapping) and "factory" in student):
        return "factory"
    method = student.get("method") if isinstance(student, Mapping) else getattr(student, "method", None)
    return method if isinstance(method, str) else None


Student = Annotated[
    Annotated[Factory, Tag("factory")] | Annotated[PrunedTeacher, Tag("pruned_teacher")] | Annotated[Slim, Tag("slim")],
    Discriminator(
        _kind,
        custom_error_type="student",
        custom_error_message="needs factory, or method: pruned_teacher or slim",
    ),
]
