"""Which points stand for the others: by clusters, by their mean, by their distances.

Shapes throughout: features (n, d) float32.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from tasks.coreset.distances import blocks, near_zero, nearest, squared_distances
from tasks.coreset.evidence import Features, Indices

FITTED: Final = 20_000, 32  # samples that k-means is fitted on: so many, or more: so many per centre
SEEDED: Final = 4000, 8  # and begun with
CLAIMS: Final = 8


def herding_order(features: Features, count: int) -> Indices:
    """(count,): at step t the unchosen x that minimises ||t * mean - sum of the chosen - x||; of equals, the last.

    Welling 2009, doi:10.1145/1553374.1553517.
    """
    mean, chosen_sum = features.mean(0, dtype=np.float64), np.zeros(features.shape[1])
    norms = np.einsum("ij,ij->i", features, features)
    longest = float(np.sqrt(norms.max()))
    free = np.ones(len(features), bool)
    order = []
    for step in range(1, count + 1):
        missing = step * mean - chosen_sum
        distance = np.where(free, norms - 2 * (features @ missing.astype(np.float32)), np.inf)
        # float32 must not decide between equals
        tolerance = 2e-7 * longest * (longest + 2 * float(np.linalg.norm(missing)))
        best = int(np.flatnonzero(distance <= distance.min() + tolerance)[-1])
        order.append(best)
        free[best] = False
        chosen_sum += features[best]
    return np.array(order, np.int64)


def k_center_order(features: Features, count: int, start: int = 0) -> Indices:
    """(count,): greedy max-min distance, beginning at sample `start`.

    Sener & Savarese 2018, arXiv:1708.00489; at most twice the best radius (Gonzalez 1985).
    """
    order = [start]
    gap = np.full(len(features), np.inf, np.float32)
    buffers = [(part, np.empty_like(features[part])) for part in blocks(len(features), 16 * features.shape[1])]
    while True:
        for part, buffer in buffers:
            np.subtract(features[part], features[order[-1]], out=buffer)  # exactly zero for a duplicate
            np.minimum(gap[part], np.einsum("ij,ij->i", buffer, buffer), out=gap[part])
        gap[order[-1]] = -1.0
        if len(order) == count:
            return np.array(order, np.int64)
        order.append(int(np.argmax(gap)))


def medoids(features: Features, count: int, rng: np.random.Generator, iterations: int = 10) -> Indices:
    """(count,): k-means, then for each centre the nearest sample that no other centre is nearer to."""
    features = near_zero(features)
    order = rng.permutation(len(features))
    return _claimed(features, k_means_centres(features, order, count, rng, iterations), order)


def k_means_centres(
    features: Features, order: Indices, count: int, rng: np.random.Generator, iterations: int
) -> Features:
    """(count, d): k-means++ (Arthur & Vassilvitskii 2007) and Lloyd's iterations.

    The centres are fitted to the first samples of a random `order` where there are very many.
    """
    centres = _seeds(features[np.sort(order[: max(SEEDED[0], SEEDED[1] * count)])], count, rng)
    fitted = features[np.sort(order[: max(FITTED[0], FITTED[1] * count)])]
    for _ in range(iterations):
        moved = _means(fitted, nearest(fitted, centres)[1], centres)
        if np.array_equal(moved, centres):
            break
        centres = moved
    return centres


def coverage(features: Features, chosen: Indices) -> npt.NDArray[np.float32]:
    """(n,): distance from each sample to the nearest chosen one."""
    moved = near_zero(features)
    found = nearest(moved, moved[chosen])[0]
    found[chosen] = 0
    return found


def coverage_radius(features: Features, chosen: Indices) -> float:
    """The largest distance from any sample to the nearest chosen one."""
    return float(coverage(features, chosen).max())


def _seeds(features: Features, count: int, rng: np.random.Generator) -> Features:
    """(count, d): each drawn with a probability that grows with the squared distance to those before."""
    gap = np.full(len(features), np.inf, np.float32)
    picks = [int(rng.integers(len(features)))]
    while len(picks) < count:
        np.minimum(gap, np.square(features - features[picks[-1]]).sum(1), out=gap)
        reach = np.cumsum(gap, dtype=np.float64)
        # without any distance left, only duplicates are
        drawn = rng.random() * reach[-1] if reach[-1] > 0 else -1.0
        picks.append(int(np.searchsorted(reach, drawn, side="right")) % len(features))
    return features[picks]


def _means(features: Features, which: Indices, centres: Features) -> Features:
    """The mean of each cluster; an empty one stays where it was."""
    order = np.argsort(which, kind="stable")
    sizes = np.bincount(which, minlength=len(centres))
    filled = sizes > 0
    starts = (np.cumsum(sizes) - sizes)[filled]
    moved = centres.copy()
    moved[filled] = np.add.reduceat(features[order], starts, axis=0) / sizes[filled, None]
    return moved


def _claimed(features: Features, centres: Features, order: Indices) -> Indices:
    """(k,): one sample per centre, the nearest; where two centres want the same, the nearer gets it."""
    owner = np.full(len(centres), -1, np.int64)
    free = np.ones(len(features), bool)
    for _ in range(CLAIMS):
        left = np.flatnonzero(owner < 0)
        if not len(left):
            return owner
        distance, wanted = _nearest_free(features, centres[left], free)
        claims = np.lexsort((distance, wanted))
        firsts = claims[np.unique(wanted[claims], return_index=True)[1]]
        owner[left[firsts]] = wanted[firsts]
        free[wanted[firsts]] = False
    # only duplicates contest a sample so often: any of the rest will do
    left = np.flatnonzero(owner < 0)
    owner[left] = order[free[order]][: len(left)]
    return owner


def _nearest_free(
    features: Features, centres: Features, free: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.float32], Indices]:
    """Squared distance of each centre to its nearest free sample, and which that is."""
    distance, which = np.full(len(centres), np.inf, np.float32), np.zeros(len(centres), np.int64)
    for part in blocks(len(features), len(centres)):
        found = squared_distances(features[part], centres)
        found[~free[part]] = np.inf
        best = found.argmin(0)
        value = found[best, np.arange(len(centres))]
        better = value < distance
        distance[better], which[better] = value[better], best[better] + part.start
    return distance, which
