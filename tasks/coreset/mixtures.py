"""Which samples of one group to keep when neither the hardest nor the easiest alone will do."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tasks.coreset.evidence import Features, Indices, Scores


def ccs(easiness: Scores, count: int, rng: np.random.Generator, *, beta: float = 0.1, strata: int = 50) -> Indices:
    """(count,): leave out the hardest, then draw alike from each range of easiness, the emptiest range first.

    easiness: (n,), as AUM has it. beta: share left out, less where the rest would not make up `count`.
    strata: ranges of equal width. What a range cannot give is shared among the fuller ones.

    Zheng et al. 2023, arXiv:2210.15809, algorithm 1.
    """
    dropped = min(int(beta * len(easiness)), len(easiness) - count)
    left = np.sort(np.argsort(easiness, kind="stable")[dropped:])
    values = easiness[left]
    width = (values.max() - values.min()) / strata
    place = (
        np.minimum((values - values.min()) / width, strata - 1).astype(int) if width > 0 else np.zeros(len(left), int)
    )
    members = [left[place == stratum] for stratum in range(strata)]
    chosen, missing = [], count
    for rank, part in enumerate(sorted(members, key=len)):
        share = min(len(part), missing // (strata - rank))
        chosen.append(rng.permutation(part)[:share])
        missing -= share
    return np.concatenate(chosen)


def moderate(features: Features, labels: Indices) -> Scores:
    """(n,): how far a sample's distance to its class mean is from the median of the class; the least is chosen.

    Xia et al. 2023, "Moderate coreset", ICLR.
    """
    found = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        own = features[members]
        distance = np.linalg.norm(own - own.mean(0, dtype=np.float64).astype(np.float32), axis=1)
        found[members] = np.abs(distance - np.median(distance))
    return found


def recall_quota(recalls: npt.NDArray[np.float64], sizes: Indices, total: int) -> dict[int, int]:
    """How many of each class, in proportion to 1 - recall: at least one, at most all, `total` together.

    recalls, sizes: (classes,). What a class cannot give is shared among the others in the same proportion. Where no
    class has an error left, by size.

    Vysogorets et al. 2024, "DRoP: Distributionally robust pruning", arXiv:2404.05579.
    """
    need, room = 1 - recalls.astype(np.float64), sizes - 1.0
    extra, missing = np.zeros(len(sizes)), float(total - len(sizes))
    while missing > 1e-9:
        open_ = extra < room
        share = np.where(open_, need, 0)
        share = share if share.sum() > 0 else np.where(open_, sizes, 0).astype(float)
        extra = np.minimum(extra + missing * share / share.sum(), room)
        missing = total - len(sizes) - extra.sum()
    counts = np.floor(extra + 1e-9)
    rest = total - len(sizes) - int(counts.sum())
    behind = np.where(counts < room, extra - counts, -np.inf)
    counts[np.argsort(-behind, kind="stable")[:rest]] += 1
    return {label: int(count) + 1 for label, count in enumerate(counts)}
