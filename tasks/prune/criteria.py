"""How much a unit matters: what is known of some units, one row each, to one score each; a group's scores add up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor


@dataclass(frozen=True)
class Units:
    """What a criterion may look at: channels of one layer, or its single weights; what it does not need is None.

    weights: (units, weights of each); of a BatchNorm, its factor: (units, 1).
    change: (samples, units), the first-order change of the mean loss, by sample, when a unit becomes zero.
    inputs: (units,), L2 norm over samples of the input that a single weight multiplies; for sparsegpt, of the part of
        it that later inputs cannot stand in for.
    generator: on the CPU.
    """

    weights: Tensor
    change: Tensor | None = None
    inputs: Tensor | None = None
    generator: torch.Generator | None = None


Criterion = Callable[[Units], Tensor]


def random(units: Units) -> Tensor:
    """(units,): uniform in [0, 1), the baseline that any other criterion has to beat."""
    return torch.rand(len(units.weights), generator=units.generator)


def l1(units: Units) -> Tensor:
    """(units,): sum of absolute values (Li et al. 2017, arXiv:1608.08710)."""
    return units.weights.abs().sum(1)


def l2(units: Units) -> Tensor:
    """(units,): squared L2 norm, which adds up over the layers of a group."""
    return units.weights.square().sum(1)


def bn_scale(units: Units) -> Tensor:
    """(units,): size of the BatchNorm factor behind each channel (Liu et al. 2017, arXiv:1708.06519)."""
    return units.weights.abs().sum(1)


def fpgm(units: Units) -> Tensor:
    """(units,): sum of distances to the other filters; who is near to all can be stood in for.

    He et al. 2019, arXiv:1811.00250, eq. 4.
    """
    # the matrix product that cdist may take loses the small distances
    return torch.cdist(units.weights, units.weights, compute_mode="donot_use_mm_for_euclid_dist").sum(1)


def taylor(units: Units) -> Tensor:
    """(units,): size of the loss's first-order change without each unit, |sum of w dL/dw|, over the samples.

    The change of each sample counts by its size: near a minimum the changes cancel while the loss still rises.
    Molchanov et al. 2017, arXiv:1611.06440, eq. 8.

    Raises:
        ValueError: the change is not known.
    """
    if units.change is None:
        raise ValueError("taylor: needs the change of the loss on training samples")
    return units.change.abs().sum(0)


def lamp(units: Units) -> Tensor:
    """(units,): squared weight over the sum of the layer's squared weights that are not smaller.

    Comparable between layers: each one's largest weight has 1, so that no layer is emptied before the others.
    Lee et al. 2021, arXiv:2010.07611, eq. 4.
    """
    squares = units.weights.double().square().sum(1)
    ascending, _ = squares.sort()
    not_smaller = ascending.flip(0).cumsum(0).flip(0)[torch.searchsorted(ascending, squares)]
    return (squares / not_smaller.clamp_min(torch.finfo(torch.float64).tiny)).float()


def wanda(units: Units) -> Tensor:
    """(units,): |w| times the norm of the input that it multiplies; compare within a row only.

    Sun et al. 2023, arXiv:2306.11695, eq. 1.

    Raises:
        ValueError: the inputs are not known.
    """
    if units.inputs is None:
        raise ValueError("wanda: needs the norms of the layer's inputs on training samples")
    return units.weights.abs().sum(1) * units.inputs


def sparsegpt(units: Units) -> Tensor:
    """(units,): root of the layer's squared error without each weight, once the weights after it make up for it.

    Frantar, Alistarh 2023, arXiv:2301.00774, eq. 4.

    Raises:
        ValueError: the inputs are not known.
    """
    if units.inputs is None:
        raise ValueError("sparsegpt: needs the norms of the layer's inputs on training samples")
    return units.weights.abs().sum(1) * units.inputs


CRITERIA: Final[Mapping[str, Criterion]] = {
    "random": random,
    "l1": l1,
    "l2": l2,
    "bn_scale": bn_scale,
    "taylor": taylor,
    "fpgm": fpgm,
    "lamp": lamp,
    "wanda": wanda,
    "sparsegpt": sparsegpt,
}

# which of a group's layers count: those that make a channel, that scale it, that read it; elsewhere makes and reads
ROLES: Final[Mapping[Criterion, frozenset[str]]] = {
    random: frozenset({"makes"}),
    fpgm: frozenset({"makes"}),
    bn_scale: frozenset({"scales"}),
}
# scores that layers compete by as they are; others are taken relative to their layer's mean. Taylor's mean the same in
# every layer too, but take nearly all of some layers, which training then cannot make good (decision 8)
COMPARABLE: Final = frozenset({bn_scale})
BY_ROW: Final = frozenset({wanda})
BY_INPUTS: Final = frozenset({wanda, sparsegpt})
