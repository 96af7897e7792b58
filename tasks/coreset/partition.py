"""Greedy selection in two rounds: first within cells of bounded size, then among what the cells chose.

Mirzasoleiman et al. 2013, "Distributed submodular maximization" (GreeDi). Cells share nothing, so that `run` may be the
map of a pool of processes or machines; what comes out does not depend on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from math import ceil
from typing import Any

import numpy as np

from tasks.coreset.evidence import Features, Indices

# (targets, candidates, count, rng) -> positions among the candidates, in the order of choice
Order = Callable[[Features, Features, int, np.random.Generator], Indices]
Run = Callable[[Callable[[Any], Indices], Iterable[Any]], Iterable[Indices]]

OVERSAMPLING = 2


def two_rounds(
    features: Features, count: int, rng: np.random.Generator, order: Order, *, cell: int | None, run: Run = map
) -> Indices:
    """(count,): positions in `features`; in one round where there is no `cell` or all fit into one.

    The cells are drawn at random, so that each looks like the whole, and each hands on twice its share of `count`. The
    second round measures a candidate by `cell` samples drawn from all: its memory does not grow with them.
    """
    parts = 1 if cell is None else ceil(len(features) / cell)
    if cell is None or parts == 1:
        return order(features, features, count, rng)
    cells = [np.sort(part) for part in np.array_split(rng.permutation(len(features)), parts)]
    each = ceil(OVERSAMPLING * count / parts)
    work = [(part, min(each, len(part)), own) for part, own in zip(cells, rng.spawn(parts), strict=True)]
    union = np.sort(np.concatenate(list(run(partial(_in_cell, features, order), work))))
    targets = np.sort(rng.permutation(len(features))[:cell])
    return union[order(features[targets], features[union], count, rng)]


def _in_cell(features: Features, order: Order, work: tuple[Indices, int, np.random.Generator]) -> Indices:
    members, count, rng = work
    own = features[members]
    return members[order(own, own, count, rng)]
