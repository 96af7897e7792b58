"""Losses between what two networks hold inside: a feature of each in, one number out.

Shapes throughout: features (batch, channels) or (batch, channels, height, width), float, the batch the same in both.
Where the features are equal each loss is zero, and so is its gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TRIPLES_AMONG: Final = 64  # samples, the usual batch of RKD


class FeatureComparison(Protocol):
    """One entry of FEATURE_LOSSES; its knobs are keyword-only and have defaults."""

    def __call__(self, student: Tensor, teacher: Tensor, /) -> Tensor:
        """Scalar, mean over the batch."""
        ...


def fitnet(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of two features of as many channels; `aligned` brings the other dimensions together.

    Raises:
        ValueError: the features cannot be aligned, or differ in channels (see `adapter`).

    Romero et al. 2015, arXiv:1412.6550, eq. 3.
    """
    student, teacher = aligned(student, teacher)
    if student.shape != teacher.shape:
        raise _misfit("fitnet", student, teacher, "the student's must pass an adapter to as many channels first")
    return F.mse_loss(student, teacher)


def at(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of attention maps: squares averaged over the channels, each map scaled to length one.

    The numbers of channels are free; the larger image is pooled to the size of the smaller one first.

    Raises:
        ValueError: a feature is not (batch, channels, height, width), or the batches differ.

    Zagoruyko & Komodakis 2017, arXiv:1612.03928, eq. 2 with p = 2 (mean for sum, as in the authors' code).
    """
    if student.ndim != 4 or teacher.ndim != 4 or len(student) != len(teacher):
        raise _misfit("at", student, teacher, "both must be (batch, channels, height, width), of the same batch")
    ours, theirs = (_unit_rows(feature.square().mean(1).flatten(1)) for feature in _same_size(student, teacher))
    return F.mse_loss(ours, theirs)


def sp(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the samples' similarities: inner products within the batch, rows of length one.

    Features may have any shape after the batch, and need not share it. A lone sample gives zero.

    Raises:
        ValueError: the batches differ, or a feature has no dimension beside it.

    Tung & Mori 2019, arXiv:1907.09682, eqs. 2 to 4.
    """
    ours, theirs = (_unit_rows(feature @ feature.T) for feature in _flat("sp", student, teacher))
    return F.mse_loss(ours, theirs)


def rkd(student: Tensor, teacher: Tensor, *, distance: float = 25.0, angle: float = 50.0) -> Tensor:
    """Huber losses between all pairs' distances, in units of their mean, and between the cosines in triples.

    Features may have any shape after the batch, and need not share it. A lone sample gives zero.
    The triples are all those within each TRIPLES_AMONG samples of the batch: among all, they would grow with its cube.

    Raises:
        ValueError: the batches differ, or a feature has no dimension beside it.

    Park et al. 2019, arXiv:1904.05068, eqs. 5 to 10.
    """
    ours, theirs = (_relative_distances(feature) for feature in _flat("rkd", student, teacher))
    return distance * F.smooth_l1_loss(ours, theirs) + angle * _angles(ours, theirs)


def aligned(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both features with the same dimensions, channels aside: pooled to the smaller image, or to none beside vectors.

    Raises:
        ValueError: a feature is neither (batch, channels) nor (batch, channels, height, width), or the batches differ.
    """
    if not {student.ndim, teacher.ndim} <= {2, 4} or len(student) != len(teacher):
        needed = "both must be (batch, channels) or (batch, channels, height, width), of the same batch"
        raise _misfit("fitnet", student, teacher, needed)
    if student.ndim == teacher.ndim == 4:
        return _same_size(student, teacher)
    return _pooled(student), _pooled(teacher)


def adapter(student: Tensor, teacher: Tensor, generator: torch.Generator) -> nn.Module:
    """What maps the channels of `student` to those of `teacher`, both aligned: the regressor of FitNets.

    generator: on the CPU; the weights are drawn from it.

    Returns:
        A 1x1 convolution for images, a linear layer for vectors, the identity where the channels agree.
    """
    inputs, outputs = student.shape[1], teacher.shape[1]
    if inputs == outputs:
        return nn.Identity()
    # made without values, as the layers' own initialisation would draw from the global generator
    layer = (
        nn.Conv2d(inputs, outputs, 1, device="meta") if student.ndim == 4 else nn.Linear(inputs, outputs, device="meta")
    ).to_empty(device="cpu")
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -(inputs**-0.5), inputs**-0.5, generator=generator)  # torch's default for both
    return layer.to(student.device)


def _pooled(feature: Tensor) -> Tensor:
    return feature.mean((2, 3)) if feature.ndim == 4 else feature


def _same_size(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    size = min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3])
    return F.adaptive_avg_pool2d(student, size), F.adaptive_avg_pool2d(teacher, size)


def _flat(name: str, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    if min(student.ndim, teacher.ndim) < 2 or len(student) != len(teacher):
        raise _misfit(name, student, teacher, "both must be (batch, ...), of the same batch")
    return student.flatten(1), teacher.flatten(1)


def _unit_rows(x: Tensor) -> Tensor:
    """Each row divided by its length; a row of zeros stays, with a gradient of moderate size."""
    length: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return x / length.masked_fill(length == 0, 1)


def _relative_distances(points: Tensor) -> Tensor:
    """(batch, features) -> (batch, batch): Euclidean distances over the mean of those that are not zero."""
    # by matrix product, the distances of near neighbours would be lost to rounding
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    mean = distances.sum() / (distances > 0).sum().clamp(min=1)
    return distances / mean.masked_fill(mean == 0, 1)


def _angles(ours: Tensor, theirs: Tensor) -> Tensor:
    """Mean Huber loss between the cosines, from two matrices of distances (batch, batch)."""
    starts = range(0, len(ours), TRIPLES_AMONG)
    groups = [slice(start, min(start + TRIPLES_AMONG, len(ours))) for start in starts]
    cosines = [[_cosines(distances[group, group]) for distances in (ours, theirs)] for group in groups]
    losses = [F.smooth_l1_loss(a, b, reduction="sum") for a, b in cosines]
    return torch.stack(losses).sum() / sum(a.numel() for a, _ in cosines)


def _cosines(distances: Tensor) -> Tensor:
    """(batch, batch) -> (batch, batch, batch): [j, i, k] of the angle at j between i and k, 0 where j is one of them.

    By the law of cosines, so that no tensor of batch * batch * features is needed.
    """
    first, second, opposite = distances.unsqueeze(2), distances.unsqueeze(1), distances.unsqueeze(0)
    product = 2 * first * second
    cosines = (first.square() + second.square() - opposite.square()) / product.masked_fill(product == 0, 1)
    return cosines.masked_fill(product == 0, 0).clamp(-1, 1)  # near duplicates round to outside


def _misfit(name: str, student: Tensor, teacher: Tensor, needed: str) -> ValueError:
    shapes = f"the student's feature has shape {tuple(student.shape)}, the teacher's {tuple(teacher.shape)}"
    return ValueError(f"{name}: {shapes}; {needed}")


FEATURE_LOSSES: Final[Mapping[str, FeatureComparison]] = {"fitnet": fitnet, "at": at, "sp": sp, "rkd": rkd}
