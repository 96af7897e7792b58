"""Losses towards a teacher's logits: student logits, teacher logits and targets in, one number out.

Shapes throughout: logits (batch, classes), targets (batch,) class indices or (batch, classes) probabilities.
Where the logits are equal each loss is zero, and so is its gradient. LOSSES lists those on features too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from tasks.training.features import FEATURE_LOSSES


class DistillationLoss(Protocol):
    """One entry of LOGIT_LOSSES; its knobs are keyword-only and have defaults."""

    def __call__(self, student: Tensor, teacher: Tensor, targets: Tensor) -> Tensor:
        """Scalar, mean over the batch."""
        ...


def kd(student: Tensor, teacher: Tensor, targets: Tensor, *, temperature: float = 4.0) -> Tensor:
    """Divergence of the softened student from the softened teacher.

    Hinton, Vinyals, Dean 2015, arXiv:1503.02531.
    """
    divergence = F.kl_div(
        F.log_softmax(student / temperature, 1),
        F.log_softmax(teacher / temperature, 1),
        reduction="batchmean",
        log_target=True,
    )
    return divergence * temperature**2  # gradients shrink by 1/T^2; scale back so that weights mean the same at every T


def kd_standardised(student: Tensor, teacher: Tensor, targets: Tensor, *, temperature: float = 2.0) -> Tensor:
    """kd on z-scored logits: the student need not match the teacher's scale.

    Sun et al. 2024, arXiv:2403.01427.
    """
    return kd(_standardise(student), _standardise(teacher), targets, temperature=temperature)


def dkd(
    student: Tensor,
    teacher: Tensor,
    targets: Tensor,
    *,
    temperature: float = 4.0,
    alpha: float = 1.0,
    beta: float = 8.0,
) -> Tensor:
    """kd cut into the part on the target class (weight alpha) and the part among the others (weight beta).

    Where targets are probabilities, the likeliest class is the target.

    Zhao et al. 2022, arXiv:2203.08679.
    """
    targets = targets.argmax(1) if targets.ndim == 2 else targets
    target = F.one_hot(targets, student.shape[1]).bool()
    log_student, log_teacher = (F.log_softmax(logits / temperature, 1) for logits in (student, teacher))
    binary_student, binary_teacher = (_target_or_not(logits, target) for logits in (log_student, log_teacher))
    on_target = F.kl_div(binary_student, binary_teacher, reduction="batchmean", log_target=True)
    others = [
        F.log_softmax((logits / temperature).masked_select(~target).view(len(logits), -1), 1)
        for logits in (student, teacher)
    ]
    among_others = F.kl_div(others[0], others[1], reduction="batchmean", log_target=True)
    return (alpha * on_target + beta * among_others) * temperature**2


def dist(
    student: Tensor,
    teacher: Tensor,
    targets: Tensor,
    *,
    temperature: float = 1.0,
    inter: float = 1.0,
    intra: float = 1.0,
) -> Tensor:
    """One minus the correlation with the teacher's probabilities, within each sample and within each class.

    A lone sample varies within no class and leaves the first part only.

    Huang et al. 2022, arXiv:2205.10536.
    """
    p_student, p_teacher = (F.softmax(logits / temperature, 1) for logits in (student, teacher))
    between = 1 - _correlation(p_student, p_teacher).mean()
    within = 1 - _correlation(p_student.T, p_teacher.T).mean() if len(student) > 1 else 0.0
    return (inter * between + intra * within) * temperature**2


def mse(student: Tensor, teacher: Tensor, targets: Tensor) -> Tensor:
    """Mean squared difference of the outputs, for regression and for matching logits.

    Ba & Caruana 2014, arXiv:1312.6184, eq. 1.
    """
    return F.mse_loss(student, teacher)


def mutual(student: Tensor, teacher: Tensor, targets: Tensor) -> Tensor:
    """Both towards each other, and the peer (`teacher`) towards the targets; each takes the other's answer as given.

    Zhang et al. 2018, arXiv:1706.00384.
    """
    towards_peer = kd(student, teacher.detach(), targets, temperature=1.0)
    towards_student = kd(teacher, student.detach(), targets, temperature=1.0)
    return towards_peer + towards_student + F.cross_entropy(teacher, targets)


def _standardise(logits: Tensor) -> Tensor:
    return (logits - logits.mean(1, keepdim=True)) / (logits.std(1, keepdim=True) + 1e-7)


def _target_or_not(log_probabilities: Tensor, target: Tensor) -> Tensor:
    """(batch, classes) -> (batch, 2): log of the target's probability and of all others' together."""
    on = log_probabilities.masked_select(target)
    rest = log_probabilities.masked_fill(target, -torch.inf).logsumexp(1)
    return torch.stack([on, rest], 1)


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson correlation of each row of `a` with the same row of `b`: (rows,)."""
    return F.cosine_similarity(a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True), dim=1, eps=1e-8)


LOGIT_LOSSES: Final[Mapping[str, DistillationLoss]] = {
    "kd": kd,
    "kd_standardised": kd_standardised,
    "dkd": dkd,
    "dist": dist,
    "mse": mse,
}
PEER_LOSSES: Final[Mapping[str, DistillationLoss]] = {"mutual": mutual}
LOSSES: Final[Mapping[str, Callable[..., Tensor]]] = {**LOGIT_LOSSES, **PEER_LOSSES, **FEATURE_LOSSES}
