"""How hard each sample is, from what a small network said about it while it learned. Larger is harder.

Shapes throughout: probabilities (n, classes), labels (n,), right and margins (epochs, n) -> scores (n,).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tasks.coreset.evidence import Evidence, Indices, Scores

Probabilities = npt.NDArray[np.floating[Any]]


def el2n(probabilities: Probabilities, labels: Indices) -> Scores:
    """Length of the error, ||p - onehot||_2; meant for an early epoch (Paul et al. 2021, arXiv:2107.07075)."""
    error = probabilities.astype(np.float64)
    error[np.arange(len(labels)), labels] -= 1
    return np.asarray(np.linalg.norm(error, axis=1))


def grand(probabilities: Probabilities, labels: Indices, hidden_norms: npt.NDArray[np.floating[Any]]) -> Scores:
    """Length of the cross-entropy's gradient in the last layer's weights and bias, for one training.

    That gradient is the outer product of p - onehot and (h, 1), h being the layer's input: its length is the product of
    theirs. The paper's score takes all layers and a mean over trainings (Paul et al. 2021, arXiv:2107.07075).

    hidden_norms: (n,), ||(h, 1)||_2.
    """
    return el2n(probabilities, labels) * hidden_norms


def certainty(probabilities: Probabilities) -> Scores:
    """The largest p minus the second largest, whatever the label (Scheffer et al. 2001)."""
    ordered = np.partition(probabilities.astype(np.float64), -2, axis=1)
    return np.asarray(ordered[:, -1] - ordered[:, -2])


def entropy(probabilities: Probabilities) -> Scores:
    """-sum of p ln p."""
    p = probabilities.astype(np.float64)
    return np.asarray(-(p * np.log(np.where(p > 0, p, 1))).sum(1))


def forgetting(right: npt.NDArray[np.bool_]) -> Scores:
    """How often a right answer was followed by a wrong one; infinite where none was right.

    Toneva et al. 2019, arXiv:1812.05159.
    """
    events = (right[:-1] & ~right[1:]).sum(0).astype(np.float64)
    events[~right.any(0)] = np.inf
    return np.asarray(events)


def aum(margins: npt.NDArray[np.floating[Any]]) -> Scores:
    """Sum over the epochs of p of the own class minus the largest other p: large where a sample is *easy*.

    Pleiss et al. 2020, arXiv:2001.10528, has logits for p and the mean for the sum.
    """
    return np.asarray(margins.sum(0, dtype=np.float64))


def own_margin(probabilities: Probabilities, labels: Indices) -> Scores:
    """p of the own class minus the largest other p."""
    others = probabilities.astype(np.float64)
    rows = np.arange(len(labels))
    own = others[rows, labels].copy()
    others[rows, labels] = -np.inf
    return np.asarray(own - others.max(1))


# from evidence; larger is harder
HARDNESS: Final[Mapping[str, Callable[[Evidence], Scores]]] = {
    "el2n": lambda evidence: el2n(evidence.need("probabilities"), evidence.labels),
    "grand": lambda evidence: grand(evidence.need("probabilities"), evidence.labels, evidence.need("hidden_norms")),
    "margin": lambda evidence: -certainty(evidence.need("probabilities")),
    "entropy": lambda evidence: entropy(evidence.need("probabilities")),
    "forgetting": lambda evidence: forgetting(evidence.need("right")),
    "aum": lambda evidence: -aum(evidence.need("margins")),
}
