"""Losses that look inside the networks, tried once on every pair of them before any is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from tasks.models.normalised import Normalised
from tasks.params import Distill, Loss
from tasks.training.objective import Objective, Outputs
from tasks.training.taps import Taps

Named = tuple[str, Normalised]


def rehearse(
    params: Distill, student: Normalised, teacher: Normalised, assistant: Normalised | None, shape: Sequence[int]
) -> None:
    """Compare what the trainings will compare, on two blank samples of this shape.

    Raises:
        ValueError: a network lacks a module that a loss names, or two features cannot be compared.
    """
    losses: Sequence[Loss] = () if params.losses == "auto" else params.losses
    objective = Objective(losses, 0.0)
    if not objective.student_taps and not objective.teacher_taps:
        return
    inputs, targets = torch.zeros(2, *shape), torch.zeros(2, dtype=torch.int64)
    for (learner, learning), (guide, teaching) in _pairs(params, student, teacher, assistant):
        answers = (
            _outputs(learning, objective.student_taps, f"distill.losses: {learner}", inputs),
            _outputs(teaching, objective.teacher_taps, f"distill.losses: {guide}", inputs),
        )
        objective.prepare_(*answers, seed=0)
        objective(*answers, targets)


def _pairs(
    params: Distill, student: Normalised, teacher: Normalised, assistant: Normalised | None
) -> Iterator[tuple[Named, Named]]:
    """Who learns, and from whom, in the order of the trainings."""
    guide = ("the teacher", teacher)
    if assistant:
        yield ("the assistant", assistant), guide
    if assistant and params.assistant and params.assistant.teaches:
        guide = ("the assistant, which teaches,", assistant)
    yield ("the student", student), guide
    if params.generations > 1:
        yield ("the student", student), ("the student, which teaches the next generation,", student)


@torch.no_grad()
def _outputs(model: nn.Module, names: Sequence[str], field: str, inputs: Tensor) -> Outputs:
    with Taps(model.eval(), names, field) as taps:
        return taps.outputs(model(inputs))
