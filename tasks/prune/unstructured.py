"""Unstructured pruning: single weights become zero, the smallest of the whole model first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from tasks.params import UnstructuredPruning
from tasks.prune.allocation import Score, Sensitivity
from tasks.prune.criteria import CRITERIA, Criterion

Masks = dict[str, Tensor]


def scan(model: nn.Module, params: UnstructuredPruning, input_shape: Sequence[int], score: Score) -> list[Sensitivity]:
    """Loss and accuracy with one layer's smallest weights zeroed, for every layer and ratio."""
    criterion = CRITERIA[params.criterion.method]
    points = []
    for name, parameter in weights(model).items():
        for ratio in params.sensitivity.ratios:
            candidate = deepcopy(model)
            apply_(candidate, masks({name: parameter}, ratio, criterion))
            points.append(Sensitivity(name.removesuffix(".weight"), ratio, *score(candidate)))
    return points


def shrink_(
    model: nn.Module,
    params: UnstructuredPruning,
    input_shape: Sequence[int],
    points: Sequence[Sensitivity],
    baseline: float,
    shares: Sequence[float],
) -> Iterator[Masks]:
    """Zero weights up to each of `shares` of the target in turn, pausing after each with the masks to respect."""
    for share in shares:
        keep = masks(weights(model), share * params.target.sparsity, CRITERIA[params.criterion.method])
        apply_(model, keep)
        yield keep


def weights(model: nn.Module) -> dict[str, Tensor]:
    """What may be pruned: the weights of convolutions and linear layers, by parameter name."""
    layers = (nn.Conv1d, nn.Conv2d, nn.Linear)
    return {f"{name}.weight": module.weight for name, module in model.named_modules() if isinstance(module, layers)}


def masks(parameters: Mapping[str, Tensor], sparsity: float, criterion: Criterion) -> Masks:
    """True where a weight is kept: one threshold for all `parameters`, and exactly `sparsity` of their weights go."""
    scores = torch.cat([criterion(parameter.detach().reshape(-1, 1)) for parameter in parameters.values()])
    keep = torch.ones(len(scores), dtype=torch.bool)
    keep[scores.argsort(stable=True)[: round(sparsity * len(scores))]] = False
    pieces = torch.split(keep, [parameter.numel() for parameter in parameters.values()])
    return {name: piece.view_as(parameters[name]) for name, piece in zip(parameters, pieces, strict=True)}


@torch.no_grad()
def apply_(model: nn.Module, keep: Mapping[str, Tensor]) -> None:
    """Zero what the masks do not keep."""
    parameters = weights(model)
    for name, mask in keep.items():
        parameters[name].mul_(mask)
