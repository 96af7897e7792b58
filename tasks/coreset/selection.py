"""Which samples to keep: selections by geometry, by difficulty and by both, and the random ones they have to beat.

Every entry of SELECTIONS takes evidence on n samples, a quota (how many of each class) and a generator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from tasks.coreset import mixtures
from tasks.coreset.distances import cluster_sizes, near_zero
from tasks.coreset.duplicates import without_duplicates
from tasks.coreset.evidence import Chosen, Evidence, Features, Indices, Quota, Scores, Selection
from tasks.coreset.facility import facility_order
from tasks.coreset.geometry import herding_order, k_center_order, medoids
from tasks.coreset.partition import two_rounds
from tasks.coreset.scores import HARDNESS, aum

Weights = Literal["equal", "clusters"]

# below this share kept, the hardest samples alone teach less than random ones (CIFAR-10, Fashion-MNIST)
ENOUGH_HARD: Final = 0.3


def choose(
    method: str,
    evidence: Evidence,
    quota: Quota,
    rng: np.random.Generator,
    *,
    knobs: Mapping[str, Any] | None = None,
    threshold: float | None = None,
) -> Chosen:
    """Select by SELECTIONS[method], after near-duplicates are out where a `threshold` is given; indices come sorted.

    Raises:
        ValueError: a feature is not finite, the quota cannot be met, or the method broke its promises.
    """
    _check_finite(evidence.features)
    kept = np.arange(len(evidence))
    if threshold is not None:
        kept = without_duplicates(evidence.features, evidence.labels, threshold, rng)
    left = evidence if len(kept) == len(evidence) else evidence.take(kept)
    for (group, count), (members, _) in zip(quota.items(), left.parts(quota), strict=True):
        if len(members) < count:
            cause = "" if threshold is None else " without near-duplicates; raise coreset.dedupe.threshold"
            raise ValueError(f"coreset: {count} samples of class {group} are asked for, it has {len(members)}{cause}")
    found = SELECTIONS[method](left, quota, rng, **(knobs or {}))
    order = np.argsort(found.indices)
    weights = found.weights[order] * (len(evidence) / len(left))
    chosen = Chosen(kept[found.indices[order]], weights, found.note)
    check_chosen(chosen, len(evidence), sum(quota.values()))
    return chosen


def quota(labels: Indices, classes: int, *, fraction: float | None, per_class: int | None) -> dict[int, int]:
    """How many of each class, by fraction (largest remainders, so the total is exact) or by count.

    Raises:
        ValueError: there is one class only, one would be left empty, or has fewer samples than asked for.
    """
    sizes = np.bincount(labels, minlength=classes)
    if classes < 2:
        raise ValueError(f"coreset: the data has {classes} class; there is nothing to learn from less than two")
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


def check_chosen(chosen: Chosen, samples: int, budget: int) -> None:
    """What every selection promises.

    Raises:
        ValueError: not `budget` different samples, or weights that are negative or do not sum to `samples`.
    """
    indices, weights = chosen.indices, chosen.weights
    if len(indices) != budget or len(np.unique(indices)) != budget:
        raise ValueError(f"coreset: {len(np.unique(indices))} different samples were chosen; it must be {budget}")
    if len(weights) != len(indices) or not np.isclose(weights.sum(), samples) or weights.min() < 0:
        raise ValueError(
            f"coreset: the {len(weights)} weights of {len(indices)} samples sum to {weights.sum():g} and begin at "
            f"{weights.min():g}; they must sum to {samples}, the samples they stand for, and none be negative"
        )


def random(evidence: Evidence, quota: Quota, rng: np.random.Generator) -> Chosen:
    """As many samples as the quota sums to, whatever their class."""
    return _equal(evidence, rng.permutation(len(evidence))[: sum(quota.values())])


def stratified(evidence: Evidence, quota: Quota, rng: np.random.Generator) -> Chosen:
    """Random within each class."""
    return _per_part(evidence, quota, lambda members, count: rng.permutation(len(members))[:count])


def k_means(evidence: Evidence, quota: Quota, rng: np.random.Generator, *, weights: Weights = "equal") -> Chosen:
    """Per class, the samples nearest to the centres of as many clusters."""
    return _per_part(evidence, quota, lambda members, count: medoids(evidence.features[members], count, rng), weights)


def herding(evidence: Evidence, quota: Quota, rng: np.random.Generator) -> Chosen:
    """Per class, samples whose running mean follows the class mean."""
    return _per_part(evidence, quota, lambda members, count: herding_order(evidence.features[members], count))


def k_center(
    evidence: Evidence,
    quota: Quota,
    rng: np.random.Generator,
    *,
    partition: int | None = None,
    weights: Weights = "equal",
) -> Chosen:
    """Per class, always the sample farthest from those chosen; in cells of `partition` samples first, if given."""

    def order(_: Features, candidates: Features, count: int, __: np.random.Generator) -> Indices:
        return k_center_order(candidates, count)

    def select(members: Indices, count: int) -> Indices:
        return two_rounds(evidence.features[members], count, rng, order, cell=partition)

    return _per_part(evidence, quota, select, weights)


def facility_location(
    evidence: Evidence,
    quota: Quota,
    rng: np.random.Generator,
    *,
    greedy: Literal["lazy", "stochastic"] = "lazy",
    epsilon: float = 0.1,
    partition: int | None = None,
    weights: Weights = "clusters",
) -> Chosen:
    """Per class, the samples to which all others are closest; in cells of `partition` samples first, if given.

    With the sizes of their clusters as weights this is CRAIG's set (Mirzasoleiman et al. 2020, arXiv:1906.01827), but
    for n + k as their sum in its usual code.
    """

    def order(targets: Features, candidates: Features, count: int, own: np.random.Generator) -> Indices:
        return facility_order(targets, candidates, count, own if greedy == "stochastic" else None, epsilon)

    def select(members: Indices, count: int) -> Indices:
        return two_rounds(near_zero(evidence.features[members]), count, rng, order, cell=partition)

    return _per_part(evidence, quota, select, weights)


def hardest(score: Callable[[Evidence], Scores]) -> Selection:
    """The selection that takes the hardest of each class by this score; of equals, random ones."""

    def select(evidence: Evidence, quota: Quota, rng: np.random.Generator) -> Chosen:
        found = score(evidence)
        ties = rng.permutation(len(evidence))
        chosen = _per_part(evidence, quota, lambda members, count: np.lexsort((ties[members], -found[members]))[:count])
        share = len(chosen.indices) / len(evidence)
        if share >= ENOUGH_HARD:
            return chosen
        note = f"the hardest {share:.1%} alone usually teach less than random ones; try ccs or facility_location"
        return Chosen(chosen.indices, chosen.weights, note)

    return select


def ccs(evidence: Evidence, quota: Quota, rng: np.random.Generator, *, beta: float = 0.1, strata: int = 50) -> Chosen:
    """Per class, without the hardest share `beta`, alike from `strata` ranges of AUM."""
    easiness = aum(evidence.need("margins"))
    return _per_part(
        evidence, quota, lambda members, count: mixtures.ccs(easiness[members], count, rng, beta=beta, strata=strata)
    )


def moderate(evidence: Evidence, quota: Quota, rng: np.random.Generator) -> Chosen:
    """Per class, the samples whose distance to the class mean is nearest to the median distance."""
    found = mixtures.moderate(evidence.features, evidence.labels)
    return _per_part(evidence, quota, lambda members, count: np.argsort(found[members], kind="stable")[:count])


def drop_quota(evidence: Evidence, quota: Quota, rng: np.random.Generator) -> Chosen:
    """As many samples as the quota sums to, more of the classes that the proxy gets wrong, random within each."""
    recalls = evidence.need("recalls")
    sizes = np.bincount(evidence.labels, minlength=len(recalls))
    shares = mixtures.recall_quota(recalls, sizes, sum(quota.values()))
    parts = [rng.permutation(np.flatnonzero(evidence.labels == label))[:count] for label, count in shares.items()]
    return _equal(evidence, np.concatenate(parts))


def _per_part(
    evidence: Evidence,
    quota: Quota,
    select: Callable[[Indices, int], npt.NDArray[np.integer]],
    weights: Weights = "equal",
) -> Chosen:
    """Run `select`, which maps the samples of one part of the quota to positions among them, on each part."""
    indices, sizes = [], []
    for members, count in evidence.parts(quota):
        if count == 0:
            continue
        chosen = select(members, count)
        indices.append(members[chosen])
        if weights == "clusters":
            sizes.append(cluster_sizes(evidence.features[members], chosen.astype(np.int64)))
    if weights == "equal":
        return _equal(evidence, np.concatenate(indices))
    return Chosen(np.concatenate(indices), np.concatenate(sizes))


def _equal(evidence: Evidence, indices: Indices) -> Chosen:
    return Chosen(indices, np.full(len(indices), len(evidence) / len(indices)))


def _check_finite(features: Features) -> None:
    bad = np.flatnonzero(~np.isfinite(features.sum(axis=1, dtype=np.float64)))
    if len(bad):
        raise ValueError(
            f"coreset.features: {len(bad)} of {len(features)} samples have features that are not finite, "
            f"the first is training sample {bad[0]}"
        )


SELECTIONS: Final[Mapping[str, Selection]] = {
    "random": random,
    "stratified": stratified,
    "k_means": k_means,
    "herding": herding,
    "k_center": k_center,
    "facility_location": facility_location,
    **{name: hardest(score) for name, score in HARDNESS.items()},
    "ccs": ccs,
    "moderate": moderate,
    "drop_quota": drop_quota,
}
# these look at how the proxy learned, whatever the features
NEEDS_TRAINING: Final = {*HARDNESS, "ccs", "drop_quota"}
