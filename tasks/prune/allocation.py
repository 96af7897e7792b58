"""How much each layer loses, by one of three rules, for the whole to meet a target."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

Score = Callable[[nn.Module], tuple[float, float]]
Cost = Callable[[Mapping[str, float]], float]
Plan = Callable[[float], dict[str, float]]
MEASUREMENTS: Final = 6
SMALLEST: Final = (
    "the smallest that its layers can be leaves {:.3f}; raise it, lower round_to where channels go, "
    "or ignore and protect less"
)


class NothingToCut(ValueError):
    """The model has no unit of the pattern left that may go; a model that was pruned before can come to that."""


class Unreachable(ValueError):
    """The target cannot be met; `left` is the least found instead, `best` says so and what would do."""

    def __init__(self, target: float, left: float, best: str) -> None:
        super().__init__(f"prune.target is {target}; {best}")
        self.left, self.best = left, best


@dataclass(frozen=True)
class Sensitivity:
    """What pruning this layer alone at this ratio does to the validation subset."""

    layer: str
    ratio: float
    loss: float
    accuracy: float


def allocate(scan: Sequence[Sensitivity], baseline: float, cost: Cost, target: float) -> dict[str, float]:
    """Pruning ratio by layer: all layers give way to the same rise of the loss, as small a one as meets `target`.

    baseline: loss before any pruning. cost: what is left, as a share, at given ratios; falls with them.

    Raises:
        ValueError: even the largest ratios scanned leave more than `target`.
    """
    curves = {layer: _curve(scan, layer, baseline) for layer in dict.fromkeys(point.layer for point in scan)}

    def plan(rise: float) -> dict[str, float]:
        return {layer: float(np.interp(rise, rises, ratios)) for layer, (ratios, rises) in curves.items()}

    high = max(curve[1][-1] for curve in curves.values())
    return _least(plan, high, cost, target, "the largest ratios scanned leave {:.3f}; raise it or scan higher")


def uniform(layers: Sequence[str], cost: Cost, target: float) -> dict[str, float]:
    """The same pruning ratio for every layer, as small a one as meets `target`.

    Raises:
        ValueError: the smallest each layer can be is not small enough.
    """
    return _least(lambda ratio: dict.fromkeys(layers, ratio), 1.0, cost, target, SMALLEST)


def ranked(scores: Mapping[str, Tensor], kinds: Mapping[str, str], cost: Cost, target: float) -> dict[str, float]:
    """Pruning ratio by layer when of each kind of layer the same share goes, the lowest scores, as small as it can be.

    scores: (channels,) by layer, comparable between layers of one kind. kinds: by layer.
    Of kinds that are those of isomorphic groups: Fang et al. 2024, arXiv:2407.04616.

    Raises:
        ValueError: the smallest each layer can be is not small enough.
    """
    orders = []
    for kind in dict.fromkeys(kinds.values()):
        own = {layer: scores[layer] for layer in scores if kinds[layer] == kind}
        owner = [layer for layer, values in own.items() for _ in range(len(values))]
        orders.append([owner[place] for place in torch.cat(list(own.values())).argsort(stable=True).tolist()])

    def plan(share: float) -> dict[str, float]:
        gone = Counter(layer for order in orders for layer in order[: round(share * len(order))])
        return {layer: gone[layer] / len(own) for layer, own in scores.items()}

    return _least(plan, 1.0, cost, target, SMALLEST)


def measured(plan: Plan, least: float, cost: Cost, target: float) -> dict[str, float]:
    """Of the plans for ever less by a foretold cost the largest found that really costs at most `target`.

    plan: ratios by the share that they leave by the foretold cost, down to `least`. cost: measured on each of
    MEASUREMENTS plans.

    Raises:
        ValueError: even `least` costs more.
    """
    found = plan(least)
    best = cost(found)
    if best > target:
        raise Unreachable(target, best, f"the smallest that its layers can be leaves {best:.3f}; raise it")
    low, high = least, 1.0
    for _ in range(MEASUREMENTS - 1):
        middle = (low + high) / 2
        ratios = plan(middle)
        if cost(ratios) <= target:
            low, found = middle, ratios
        else:
            high = middle
    return found


def _least(plan: Plan, high: float, cost: Cost, target: float, best: str) -> dict[str, float]:
    """The plan for the smallest number up to `high` that costs at most `target`."""
    least = cost(plan(high))
    if least > target:
        raise Unreachable(target, least, best.format(least))
    low = 0.0
    for _ in range(60):  # fine enough to tell layers apart whose pruning costs nothing
        middle = (low + high) / 2
        low, high = (low, middle) if cost(plan(middle)) <= target else (middle, high)
    return plan(high)


def _curve(scan: Sequence[Sensitivity], layer: str, baseline: float) -> tuple[list[float], list[float]]:
    """Ratios and the rise of the loss at each, never falling, both starting at zero."""
    points = sorted((point.ratio, point.loss - baseline) for point in scan if point.layer == layer)
    ratios = [0.0, *(ratio for ratio, _ in points)]
    # strictly rising, so that the inverse is defined where pruning a layer costs nothing
    rises = np.maximum.accumulate([0.0, *(rise for _, rise in points)]) + 1e-9 * np.arange(len(ratios))
    return ratios, rises.tolist()
