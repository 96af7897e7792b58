"""Which samples to keep: selections by geometry, and the random ones that they have to beat.

Shapes throughout: features (n, d) float64, labels (n,) class indices, quota: how many of each class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

Features = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Quota = Mapping[int, int]
Selection = Callable[[Features, Indices, Quota, np.random.Generator], Indices]


def quota(labels: Indices, classes: int, *, fraction: float | None, per_class: int | None) -> dict[int, int]:
    """How many of each class, by fraction (largest remainders, so the total is exact) or by count.

    Raises:
        ValueError: a class would be left empty, or has fewer samples than asked for.
    """
    sizes = np.bincount(labels, minlength=classes)
    if per_class is not None:
        if short := [index for index in range(classes) if sizes[index] < per_class]:
            raise ValueError(f"coreset.per_class is {per_class}; class {short[0]} has only {sizes[short[0]]} samples")
        return dict.fromkeys(range(classes), per_class)
    assert fraction is not None
    exact = sizes * fraction
    counts = np.floor(exact).astype(int)
    missing = round(float(exact.sum())) - int(counts.sum())
    counts[np.argsort(-(exact - counts), kind="stable")[:missing]] += 1
    if (counts == 0).any():
        empty = int(np.argmin(counts))
        if sizes[empty] == 0:
            raise ValueError(f"coreset: class {empty} of 0 samples in the training split cannot be selected from")
        raise ValueError(
            f"coreset.fraction is {fraction}; it leaves class {empty} of {sizes[empty]} samples empty; "
            f"at least {1 / sizes.min():.2g} keeps one of each, or use per_class"
        )
    return {index: int(count) for index, count in enumerate(counts)}


def random(features: Features, labels: Indices, quota: Quota, rng: np.random.Generator) -> Indices:
    """As many samples as the quota sums to, whatever their class."""
    return rng.permutation(len(labels))[: sum(quota.values())].astype(np.int64)


def stratified(features: Features, labels: Indices, quota: Quota, rng: np.random.Generator) -> Indices:
    """Random within each class."""
    return _by_class(features, labels, quota, lambda members, count: rng.permutation(len(members))[:count])


def k_means(features: Features, labels: Indices, quota: Quota, rng: np.random.Generator) -> Indices:
    """Per class, the samples nearest to the centres of as many clusters."""
    return _by_class(features, labels, quota, lambda members, count: medoids(members, count, rng))


def herding(features: Features, labels: Indices, quota: Quota, rng: np.random.Generator) -> Indices:
    """Per class, samples whose running mean follows the class mean (Welling 2009)."""
    return _by_class(features, labels, quota, herding_order)


def k_center(features: Features, labels: Indices, quota: Quota, rng: np.random.Generator) -> Indices:
    """Per class, always the sample farthest from those chosen (Sener, Savarese 2018, arXiv:1708.00489)."""
    return _by_class(features, labels, quota, k_center_order)


def herding_order(features: Features, count: int) -> Indices:
    """(count,): at step t the unchosen x that minimises ||t * mean - sum of the chosen - x||; of equals, the last."""
    mean, chosen_sum = features.mean(0), np.zeros(features.shape[1])
    norms = np.square(features).sum(1)
    tolerance = 1e-12 * norms.max()  # so that rounding does not decide between equals
    order, free = [], np.ones(len(features), bool)
    for step in range(1, count + 1):
        distance = np.where(free, norms - 2 * features @ (step * mean - chosen_sum), np.inf)
        best = int(np.flatnonzero(distance <= distance.min() + tolerance)[-1])
        order.append(best)
        free[best] = False
        chosen_sum += features[best]
    return np.array(order, np.int64)


def k_center_order(features: Features, count: int, start: int = 0) -> Indices:
    """(count,): greedy max-min distance, beginning at sample `start`."""
    order = [start]
    nearest = np.square(features - features[start]).sum(1)
    while len(order) < count:
        best = int(np.argmax(nearest))
        order.append(best)
        nearest = np.minimum(nearest, np.square(features - features[best]).sum(1))
        nearest[order] = -1.0
    return np.array(order, np.int64)


def medoids(features: Features, count: int, rng: np.random.Generator, iterations: int = 20) -> Indices:
    """(count,): k-means from a random start, then for each centre the nearest sample not taken yet."""
    centres = features[rng.permutation(len(features))[:count]].copy()
    for _ in range(iterations):
        nearest = _squared_distances(features, centres).argmin(1)
        sums = np.zeros_like(centres)
        np.add.at(sums, nearest, features)
        sizes = np.bincount(nearest, minlength=count)
        filled = sizes > 0
        moved = centres.copy()
        moved[filled] = sums[filled] / sizes[filled, None]
        if np.array_equal(moved, centres):
            break
        centres = moved
    distances = _squared_distances(features, centres)
    chosen: list[int] = []
    free = np.ones(len(features), bool)
    for centre in range(count):
        best = int(np.argmin(np.where(free, distances[:, centre], np.inf)))
        chosen.append(best)
        free[best] = False
    return np.array(chosen, np.int64)


def coverage_radius(features: Features, chosen: Indices) -> float:
    """The largest distance from any sample to the nearest chosen one."""
    if len(chosen) == len(features):
        return 0.0
    nearest = np.full(len(features), np.inf)
    for start in range(0, len(chosen), 256):
        block = features[chosen[start : start + 256]]
        nearest = np.minimum(nearest, _squared_distances(features, block).min(1))
    return float(np.sqrt(max(nearest.max(), 0.0)))


def _by_class(
    features: Features, labels: Indices, quota: Quota, select: Callable[[Features, int], npt.NDArray[np.integer]]
) -> Indices:
    parts = []
    for label, count in quota.items():
        members = np.flatnonzero(labels == label)
        parts.append(members[select(features[members], count)])
    return np.concatenate(parts).astype(np.int64)


def _squared_distances(a: Features, b: Features) -> Features:
    """(len(a), len(b))."""
    distances: Features = np.square(a).sum(1)[:, None] - 2 * a @ b.T + np.square(b).sum(1)[None]
    return np.maximum(distances, 0)


SELECTIONS: Final[Mapping[str, Selection]] = {
    "random": random,
    "stratified": stratified,
    "k_means": k_means,
    "herding": herding,
    "k_center": k_center,
}
