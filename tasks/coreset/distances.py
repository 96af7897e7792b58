"""Euclidean distances between many points, a block at a time.

Shapes throughout: points (n, d), float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from tasks.coreset.evidence import Features, Indices

ELEMENTS: Final = 1 << 22  # of one block: 16 MiB


def blocks(count: int, width: int) -> Iterator[slice]:
    """Consecutive parts of range(count), such that `width` numbers for each entry make one block."""
    step = max(1, ELEMENTS // max(width, 1))
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def squared_distances(a: Features, b: Features, out: Features | None = None) -> Features:
    """(len(a), len(b)), by matrix product; inexact where points are close but far from the origin (see `near_zero`)."""
    found: Features = np.matmul(a, b.T, out=out)
    found *= -2
    found += np.einsum("ij,ij->i", a, a)[:, None]
    found += np.einsum("ij,ij->i", b, b)[None]
    np.maximum(found, 0, out=found)
    return found


def near_zero(points: Features) -> Features:
    """The points moved so that the one nearest to their mean is the origin.

    Distances by matrix product lose digits far from the origin. A point, unlike the mean, leaves whole numbers whole.
    """
    mean = points.mean(0, dtype=np.float64)
    gaps = [np.square(points[part] - mean).sum(1) for part in blocks(len(points), points.shape[1])]
    moved: Features = points - points[int(np.argmin(np.concatenate(gaps)))]
    return moved


def nearest(points: Features, centres: Features) -> tuple[npt.NDArray[np.float32], Indices]:
    """(n,) distance of each point to its nearest centre, and (n,) which that is; of equals, the first."""
    distance, which = np.empty(len(points), np.float32), np.empty(len(points), np.int64)
    for part in blocks(len(points), len(centres)):
        found = squared_distances(points[part], centres)
        which[part] = found.argmin(1)
        distance[part] = np.sqrt(found.min(1))
    return distance, which


def cluster_sizes(points: Features, chosen: Indices) -> npt.NDArray[np.float64]:
    """(k,): how many points are nearest to each of the chosen, itself included; n in all."""
    points = near_zero(points)
    which = nearest(points, points[chosen])[1]
    which[chosen] = np.arange(len(chosen))  # a chosen duplicate stands for itself too
    return np.bincount(which, minlength=len(chosen)).astype(np.float64)
