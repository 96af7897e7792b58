"""How much a unit matters: its weights, one row each, to one score each; scores of a group's layers add up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from torch import Tensor

Criterion = Callable[[Tensor], Tensor]


def l1(weights: Tensor) -> Tensor:
    """(units, weights of each) -> (units,): sum of absolute values (Li et al. 2017, arXiv:1608.08710)."""
    return weights.abs().sum(1)


def l2(weights: Tensor) -> Tensor:
    """(units, weights of each) -> (units,): squared L2 norm, which adds up over the layers of a group."""
    return weights.square().sum(1)


CRITERIA: Final[Mapping[str, Criterion]] = {"l1": l1, "l2": l2}
