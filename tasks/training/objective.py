"""What a student is trained towards: its teacher, by any of the losses, and the targets."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.params import Loss
from tasks.params.training import Dkd, FeatureLoss, Fitnet
from tasks.training.features import adapter, aligned
from tasks.training.losses import LOSSES

# what says where and how much, beside the loss's own knobs
NOT_KNOBS: Final = {"method", "weight", "warmup_epochs", "student", "teacher"}


@dataclass(frozen=True)
class Outputs:
    """What one network answers to a batch.

    logits: (batch, classes), float32.
    features: by module name, as that module returned them.
    """

    logits: Tensor
    features: Mapping[str, Tensor] = field(default_factory=dict)


def target_loss(logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Scalar: cross-entropy with classes (batch,) or their probabilities (batch, classes), or squared error (batch,).

    Raises:
        ValueError: numbers are to be learned, and the network gives more than one output.
    """
    if targets.ndim == 1 and targets.is_floating_point():
        if logits.shape[1] != 1:
            raise ValueError(f"the targets are numbers; the model gives {logits.shape[1]} outputs, it must give one")
        return F.mse_loss(logits[:, 0], targets)
    return F.cross_entropy(logits, targets, label_smoothing=label_smoothing)


class Objective(nn.Module):
    """Weighted sum of losses towards a teacher and of the loss on the targets.

    Its parameters are the adapters, to be trained along with the student and discarded after.

    student_taps, teacher_taps: names of the modules whose outputs the losses need, each once.
    """

    def __init__(self, losses: Sequence[Loss], target_weight: float) -> None:
        super().__init__()
        self.losses = tuple(losses)
        self.target_weight = target_weight
        on_features = [loss for loss in losses if isinstance(loss, FeatureLoss)]
        self.student_taps = _once(loss.student for loss in on_features)
        self.teacher_taps = _once(loss.teacher for loss in on_features)
        self.adapters = nn.ModuleDict()  # by position of the loss

    def prepare_(self, student: Outputs, teacher: Outputs, seed: int) -> None:
        """Make the adapters that the shapes seen call for, drawn by `seed`, on the features' device.

        Raises:
            ValueError: a feature is missing, or has a shape that cannot be brought to its teacher's.
        """
        generator = torch.Generator().manual_seed(seed)
        for position, loss in enumerate(self.losses):
            if isinstance(loss, Fitnet):
                self.adapters[str(position)] = adapter(*aligned(*_features(loss, student, teacher)), generator)

    def forward(
        self, student: Outputs, teacher: Outputs, targets: Tensor, *, label_smoothing: float = 0.0, epoch: int = 0
    ) -> Tensor:
        """Scalar, mean over the batch.

        targets: class indices (batch,), or probabilities (batch, classes); not looked at where no loss needs them.
        label_smoothing: of the targets, in the loss on them. epoch: how many are done, for a warm-up.

        Raises:
            ValueError: a feature is missing, shapes do not fit, or `prepare_` has not made the adapters.
        """
        total = student.logits.new_zeros(())
        if self.target_weight:
            total = total + self.target_weight * target_loss(student.logits, targets, label_smoothing)
        for position, loss in enumerate(self.losses):
            total = total + _weight(loss, epoch) * self._term(position, loss, student, teacher, targets)
        return total

    def describe(self) -> str:
        """JSON that is the same for the same losses and weights only: part of a cache's key."""
        losses = [loss.model_dump(mode="json") for loss in self.losses]
        return json.dumps({"losses": losses, "target_weight": float(self.target_weight)}, sort_keys=True)

    def _term(self, position: int, loss: Loss, student: Outputs, teacher: Outputs, targets: Tensor) -> Tensor:
        function = partial(LOSSES[loss.method], **loss.model_dump(exclude=NOT_KNOBS))
        if not isinstance(loss, FeatureLoss):
            if student.logits.shape != teacher.logits.shape:
                shapes = f"{tuple(student.logits.shape)}, the teacher's {tuple(teacher.logits.shape)}"
                raise ValueError(f"{loss.method}: the student's logits have shape {shapes}; they must be the same")
            return function(student.logits, teacher.logits, targets)
        ours, theirs = _features(loss, student, teacher)
        if not isinstance(loss, Fitnet):
            return function(ours, theirs)
        if str(position) not in self.adapters:
            raise ValueError("fitnet: its adapter is not made yet; call prepare_ with one batch's outputs first")
        ours, theirs = aligned(ours, theirs)
        return function(self.adapters[str(position)](ours), theirs)


def _weight(loss: Loss, epoch: int) -> float:
    """In a warm-up it grows by epochs, and is whole in the last of them."""
    if isinstance(loss, Dkd) and loss.warmup_epochs:
        return loss.weight * min((epoch + 1) / loss.warmup_epochs, 1.0)
    return loss.weight


def _once(names: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name in names if name is not None))


def _features(loss: FeatureLoss, student: Outputs, teacher: Outputs) -> tuple[Tensor, Tensor]:
    """What `loss` compares, as float32: autocast may have made the features in half precision."""
    ours = _feature(loss.method, "student", student, loss.student)
    return ours, _feature(loss.method, "teacher", teacher, loss.teacher)


def _feature(method: str, network: str, outputs: Outputs, name: str | None) -> Tensor:
    if name is None:
        return outputs.logits.float()
    if name not in outputs.features:
        recorded = ", ".join(map(repr, outputs.features)) or "none"
        raise ValueError(f"{method}: no output of the {network}'s module {name!r} was recorded; recorded: {recorded}")
    return outputs.features[name].float()
