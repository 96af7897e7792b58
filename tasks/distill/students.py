"""The student before its training: by a factory, a slimmer build of the teacher, or a trained network cut down."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Final

import torch
from pydantic import JsonValue
from torch import Tensor, nn

from tasks import checkpoint
from tasks.data.batches import Samples
from tasks.data.dataset import Card
from tasks.measure.accuracy import loss_and_accuracy
from tasks.measure.size import macs, parameters
from tasks.models.normalised import Normalised
from tasks.params import ChannelPruning, Factory
from tasks.params.prune import CostTarget
from tasks.params.students import PrunedTeacher, Slim, Student
from tasks.plugins import resolve
from tasks.prune.allocation import Unreachable
from tasks.prune.cost import timed_operations
from tasks.prune.evidence import Evidence
from tasks.prune.structured import scan, shrink_

FIELD: Final = "distill.model"
WIDTHS: Final = ("widths", "channels", "hidden")
OFFERED: Final = ("in_shape", "classes")


def build_student(
    student: Student, teacher: Normalised, card: Card, moments: tuple[Tensor, Tensor], validation: Samples, seed: int
) -> Normalised:
    """The student as it starts its training; the teacher, or the assistant in its place, stays as it is.

    moments: as for `checkpoint.build`. validation: on which each layer's sensitivity is scanned.
    Only a latency target can give another student for the same seed: it is measured.

    Raises:
        ValueError: the student does not fit the data, cannot be made from this teacher, or misses its target.
    """
    if isinstance(student, PrunedTeacher):
        return _pruned(student, teacher, card, validation, seed)
    factory = slimmed(teacher.factory, student) if isinstance(student, Slim) else student
    return checkpoint.build(factory, card, moments, seed, FIELD)


def same_shape_fresh(student: Normalised, seed: int) -> Normalised:
    """A copy with initial weights drawn from `seed`: what the shape can do without the weights it inherited.

    Raises:
        ValueError: a module with parameters of its own has no `reset_parameters`, so it would keep them.
    """
    fresh = deepcopy(student)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for name, module in fresh.named_modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
            elif any(True for _ in module.parameters(recurse=False)):
                raise ValueError(f"{FIELD}: {type(module).__name__} '{name}' needs a method reset_parameters")
    return fresh


def student_table(rows: Sequence[tuple[str, nn.Module]], input_shape: Sequence[int]) -> str:
    """What each model will cost on paper, for the eye before the training; weights only, 4 bytes or 1 each."""
    cells = [("model", "parameters", "MACs", "bytes float32", "bytes int8")]
    for name, model in rows:
        count = parameters(model)
        cells.append((name, f"{count:,}", f"{macs(model, input_shape):,}", f"{4 * count:,}", f"{count:,}"))
    first, *others = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join([name.ljust(first), *(cell.rjust(width) for cell, width in zip(figures, others, strict=True))])
        for name, *figures in cells
    ]
    lines.insert(1, "  ".join("-" * width for width in (first, *others)))
    return "\n".join(lines)


def slimmed(factory: Factory, params: Slim) -> Factory:
    """The factory with its width arguments multiplied by `width`, and they and the lists beside them shortened.

    The first and the last entry always stay; with strides beside the widths the image then shrinks less often.

    Raises:
        ValueError: none of its arguments is a list of widths.
    """
    lists = _lists(factory)
    widths = [name for name in WIDTHS if _whole_numbers(lists.get(name))]
    if not widths:
        raise ValueError(
            f"{FIELD}: method slim needs a teacher whose factory takes a list of whole numbers as "
            f"{' or '.join(WIDTHS)}; {factory.factory} does not; name the student's own factory, or use pruned_teacher"
        )
    lengths = {len(lists[name]) for name in widths}
    args = dict(factory.args)
    for name, values in lists.items():
        if len(values) in lengths:
            kept = [values[position] for position in _positions(len(values), params.depth)]
            args[name] = [_narrower(value, params.width) for value in kept] if name in widths else kept
    return Factory(factory=factory.factory, args=args)


def _lists(factory: Factory) -> dict[str, list[JsonValue]]:
    """Its arguments that are lists, given or by default."""
    signature = inspect.signature(resolve(factory, FIELD)).parameters
    values = {name: parameter.default for name, parameter in signature.items()} | factory.args
    return {
        name: list(value) for name, value in values.items() if isinstance(value, list | tuple) and name not in OFFERED
    }


def _whole_numbers(values: Sequence[JsonValue] | None) -> bool:
    return bool(values) and all(type(value) is int for value in values or ())


def _narrower(width: JsonValue, share: float) -> int:
    """A multiple of 4 from 8 on, which kernels like; never wider than it was."""
    assert isinstance(width, int)
    if share == 1:
        return width
    exact = width * share
    return min(width, 4 * round(exact / 4) if exact >= 8 else max(1, round(exact)))


def _positions(count: int, share: float) -> list[int]:
    """Which of `count` entries stay: the first, the last, and evenly between them."""
    kept = min(count, max(2, round(count * share)))
    return [round(place * (count - 1) / (kept - 1)) for place in range(kept)] if kept > 1 else [0]


def _pruned(params: PrunedTeacher, teacher: Normalised, card: Card, validation: Samples, seed: int) -> Normalised:
    """The teacher cut as the stage prune does it, in one step."""
    # a frozen teacher's student must train
    student = deepcopy(teacher).eval().requires_grad_(True)
    subset = validation.first(params.sensitivity.samples, seed)
    measure, share = params.target.measure
    settings = ChannelPruning(
        pattern="channel",
        target=CostTarget.model_validate({measure: share}),
        criterion=params.criterion,
        scope=params.scope,
        sensitivity=params.sensitivity,
        round_to=params.round_to,
        compensate=params.compensate,
        recalibrate=False,  # it is trained whole, whatever its statistics are
    )

    def score(candidate: nn.Module) -> tuple[float, float]:
        return loss_and_accuracy(candidate, subset)

    evidence = Evidence(card.input_shape, score, subset, seed, card)
    if measure == "latency":
        evidence = replace(evidence, operations=timed_operations(student, evidence))
    try:
        scanned = params.scope == "sensitivity"
        points, loss = (scan(student, settings, evidence), score(student)[0]) if scanned else ([], 0.0)
        list(shrink_(student, settings, evidence, points, loss, [1.0]))
    except Unreachable as error:
        raise ValueError(f"{FIELD}.target.{measure} is {share}; {error.best}") from None
    except ValueError as error:
        raise ValueError(f"{FIELD}: pruned_teacher cannot cut this teacher ({error}); name a factory") from None
    return student
