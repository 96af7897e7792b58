"""Facility location: the samples to which all others are closest, by greedy search.

The objective is sum_i max_j s_ij over targets i and chosen j, with the similarity s = largest distance - distance.
In terms of distances: the gain of a candidate is what it takes off the targets' distances to their nearest chosen one,
which is the largest distance of all as long as there is none.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from tasks.coreset.distances import ELEMENTS, blocks, near_zero, nearest, squared_distances
from tasks.coreset.evidence import Features, Indices

KEPT: Final = 1 << 28  # distances that are kept, not computed again each time they are needed: 1 GiB
BATCH: Final = 16


class Distances:
    """Rows of the (candidates, targets) matrix of distances, kept where it is small enough."""

    def __init__(self, targets: Features, candidates: Features) -> None:
        self.targets, self.candidates = targets, candidates
        shape = len(candidates), len(targets)
        self.kept = np.empty(shape, np.float32) if shape[0] * shape[1] <= KEPT else None
        self.sums, self.largest = np.empty(shape[0]), 0.0
        for part in blocks(*shape):
            out = None if self.kept is None else self.kept[part]
            found = squared_distances(candidates[part], targets, out)
            np.sqrt(found, out=found)
            self.sums[part] = found.sum(1)
            self.largest = max(self.largest, float(found.max()))

    def __call__(self, picks: Indices) -> Features:
        """(len(picks), targets)."""
        if self.kept is not None:
            return self.kept[picks]
        found = squared_distances(self.candidates[picks], self.targets)
        return np.sqrt(found, out=found)


def facility_order(
    targets: Features,
    candidates: Features,
    count: int,
    rng: np.random.Generator | None = None,
    epsilon: float = 0.1,
) -> Indices:
    """(count,): candidates in the order in which greedy takes them; of equals, the first.

    Without `rng` the search is exact, and lazy: a gain never grows, so that an old one bounds it from above and only
    the candidates with the largest bounds are looked at again (Minoux 1978, doi:10.1007/BFb0006528), many at a time.
    With `rng` each step looks at a random len(candidates) / count * ln(1 / epsilon) of them, which reaches at least
    1 - 1/e - epsilon of the optimum on average (Mirzasoleiman et al. 2015, arXiv:1409.7938).
    """
    distances = Distances(targets, candidates)
    bound = len(targets) * distances.largest - distances.sums
    gap = np.full(len(targets), distances.largest, np.float32)
    sample = int(np.ceil(len(candidates) / count * np.log(1 / epsilon)))
    order: list[int] = []
    for _ in range(count):
        if rng is None:
            best = _best(distances, bound, gap)
        else:
            free = np.flatnonzero(np.isfinite(bound))
            drawn = rng.choice(free, min(sample, len(free)), replace=False)
            drawn_bound = bound[drawn]
            best = int(drawn[_best(distances, drawn_bound, gap, drawn)])
            bound[drawn] = drawn_bound
        order.append(best)
        bound[best] = -np.inf
        np.minimum(gap, distances(np.array([best]))[0], out=gap)
    return np.array(order, np.int64)


def objective(features: Features, chosen: Indices, largest: float) -> float:
    """The sum of similarities to the nearest chosen sample, for the largest distance given."""
    moved = near_zero(features)
    return float((largest - nearest(moved, moved[chosen])[0].astype(np.float64)).sum())


def _best(distances: Distances, bound: npt.NDArray[np.float64], gap: Features, names: Indices | None = None) -> int:
    """Position of the largest gain; replaces the bounds that it looks behind by gains.

    names: which candidate each bound belongs to, where these are not all.
    """
    fresh = np.zeros(len(bound), bool)
    most = max(BATCH, ELEMENTS // len(gap))
    size = BATCH
    while True:
        best = int(np.argmax(bound))
        if fresh[best]:
            return best
        stale = np.where(fresh, -np.inf, bound)
        size = min(size, len(bound))
        picks = np.sort(np.argpartition(stale, -size)[-size:]) if size < len(bound) else np.arange(size)
        picks = picks[stale[picks] > -np.inf]
        for start in range(0, len(picks), most):
            part = picks[start : start + most]
            found = distances(part if names is None else names[part])
            np.subtract(gap, found, out=found)
            bound[part] = np.maximum(found, 0, out=found).sum(1)
        fresh[picks] = True
        size *= 2  # few rounds where all bounds are loose, few rows where they are tight
