"""All that changes while a network is trained, and how it is kept and taken up again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tasks.data.batches import Samples
from tasks.device import device, moved
from tasks.params import Train
from tasks.training.average import Average
from tasks.training.objective import Objective
from tasks.training.optimizer import make_optimizer
from tasks.training.scratch import Kept, hashed, network_hash, optimizer_tensors, restore_optimizer_, state_hash
from tasks.training.taps import Taps
from tasks.training.teachers import TeacherAnswers


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to: mean training loss, its learning rate at the end, accuracy on the validation split.

    Where the targets are numbers, validation_accuracy is the share of their variance explained (R^2).
    """

    series: str
    epoch: int
    loss: float
    lr: float
    validation_accuracy: float


@dataclass(frozen=True)
class Lesson:
    """What a student is trained towards, beside the targets: an objective, and the teacher it compares with."""

    objective: Objective
    teacher: TeacherAnswers


@dataclass
class State:
    """All that changes while a network is trained."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    average: Average | None
    lesson: Lesson | None
    classes: int
    best: dict[str, Tensor] = field(default_factory=dict)
    history: list[Epoch] = field(default_factory=list)

    @property
    def epoch(self) -> int:
        """How many are done."""
        return len(self.history)

    def ended(self, train: Train) -> bool:
        """Whether all epochs are done, or none of the last `patience` was better than the best before them."""
        seen = [done.validation_accuracy for done in self.history]
        stale = (
            train.patience is not None and len(seen) - 1 - seen.index(max(seen)) >= train.patience if seen else False
        )
        return stale or self.epoch >= train.epochs


def start(model: nn.Module, samples: Samples, train: Train, seed: int, lesson: Lesson | None) -> State:
    """Before the first step: the model on the device, adapters made, an optimizer for both."""
    target = device()
    # torch's stubs do not know that a module can change its layout
    model.to(target, memory_format=torch.channels_last)  # type: ignore[call-overload]
    parameters = list(model.parameters())
    positions = np.arange(min(2, len(samples)))
    inputs = moved(samples.inputs(positions), target)
    with torch.no_grad(), student_taps(model.eval(), lesson) as taps:
        outputs = taps.outputs(model(inputs))
    if lesson:
        lesson.teacher.view(0)
        with torch.no_grad():
            answers = lesson.teacher(positions, inputs)
        lesson.objective.prepare_(outputs, answers, seed)
        lesson.objective.to(target)
        parameters += [*lesson.objective.parameters(), *(lesson.teacher.network or nn.Module()).parameters()]
    average = Average(model, train.ema) if train.ema else None
    return State(model, make_optimizer(parameters, train), average, lesson, outputs.logits.shape[1])


def student_taps(model: nn.Module, lesson: Lesson | None) -> Taps:
    """On what the lesson compares."""
    return Taps(model, lesson.objective.student_taps if lesson else (), "distill.losses: the student")


def training_key(
    model: nn.Module,
    samples: Samples,
    validation: Samples,
    train: Train,
    seed: int,
    lesson: Lesson | None,
    keep: Mapping[str, Tensor] | None,
) -> str:
    """Of all that decides how the training ends, the samples' own content aside."""
    weights = b"" if samples.weights is None else samples.weights.tobytes()
    learned = f"{lesson.objective.describe()} {lesson.teacher.identity}" if lesson else ""
    facts = f"{seed} {train.model_dump_json()} {learned} {network_hash(model)} {state_hash(keep or {})}"
    return hashed([facts.encode(), samples.identity(), validation.identity(), weights])


def kept(state: State) -> Kept:
    """What goes on disk after an epoch."""
    parts = {
        "model": state.model.state_dict(),
        "average": state.average.mean if state.average else {},
        "optimizer": optimizer_tensors(state.optimizer),
        "objective": state.lesson.objective.state_dict() if state.lesson else {},
        "peer": state.lesson.teacher.network.state_dict() if state.lesson and state.lesson.teacher.network else {},
        "best": state.best,
    }
    facts = {
        "history": [asdict(done) for done in state.history],
        "updates": state.average.updates if state.average else 0,
    }
    return Kept({f"{part}.{name}": t for part, tensors in parts.items() for name, t in tensors.items()}, facts)


def restore_(state: State, found: Kept) -> None:
    """Go on from there."""

    def part(name: str) -> dict[str, Tensor]:
        return {key.removeprefix(f"{name}."): t for key, t in found.tensors.items() if key.startswith(f"{name}.")}

    facts: Any = found.facts
    state.model.load_state_dict(part("model"))
    if state.average:
        state.average.restore_(part("average"), facts["updates"])
    if state.lesson:
        state.lesson.objective.load_state_dict(part("objective"))
        if state.lesson.teacher.network:
            state.lesson.teacher.network.load_state_dict(part("peer"))
    restore_optimizer_(state.optimizer, part("optimizer"))
    state.best = {name: tensor.to(device()) for name, tensor in part("best").items()}
    state.history = [Epoch(**done) for done in facts["history"]]
