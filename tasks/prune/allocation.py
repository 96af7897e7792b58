"""How much each layer can bear to lose, and how much it has to lose for the whole to meet a target."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

Score = Callable[[nn.Module], tuple[float, float]]


@dataclass(frozen=True)
class Sensitivity:
    """What pruning this layer alone at this ratio does to the validation subset."""

    layer: str
    ratio: float
    loss: float
    accuracy: float


def allocate(
    scan: Sequence[Sensitivity], baseline: float, cost: Callable[[Mapping[str, float]], float], target: float
) -> dict[str, float]:
    """Pruning ratio by layer: all layers give way to the same rise of the loss, as small a one as meets `target`.

    baseline: loss before any pruning. cost: what is left, as a share, at given ratios; falls with them.

    Raises:
        ValueError: even the largest ratios scanned leave more than `target`.
    """
    curves = {layer: _curve(scan, layer, baseline) for layer in dict.fromkeys(point.layer for point in scan)}
    low, high = 0.0, max(curve[1][-1] for curve in curves.values())
    most = _ratios(curves, high)
    if cost(most) > target:
        raise ValueError(
            f"prune.target is {target}; the largest ratios scanned leave {cost(most):.3f}; raise it or scan higher"
        )
    for _ in range(60):  # fine enough to tell layers apart whose pruning costs nothing
        middle = (low + high) / 2
        low, high = (low, middle) if cost(_ratios(curves, middle)) <= target else (middle, high)
    return _ratios(curves, high)


def _curve(scan: Sequence[Sensitivity], layer: str, baseline: float) -> tuple[list[float], list[float]]:
    """Ratios and the rise of the loss at each, never falling, both starting at zero."""
    points = sorted((point.ratio, point.loss - baseline) for point in scan if point.layer == layer)
    ratios = [0.0, *(ratio for ratio, _ in points)]
    # strictly rising, so that the inverse is defined where pruning a layer costs nothing
    rises = np.maximum.accumulate([0.0, *(rise for _, rise in points)]) + 1e-9 * np.arange(len(ratios))
    return ratios, rises.tolist()


def _ratios(curves: Mapping[str, tuple[list[float], list[float]]], rise: float) -> dict[str, float]:
    return {layer: float(np.interp(rise, rises, ratios)) for layer, (ratios, rises) in curves.items()}
