"""`losses: auto`: short trainings, the better half of which go on, decide what the student learns from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

from tasks.params import Kd, Loss
from tasks.params.training import Dist, Dkd, KdStandardised


@dataclass(frozen=True)
class Candidate:
    """One thing to learn from; no losses: the targets alone."""

    name: str
    losses: tuple[Loss, ...] = ()
    target_weight: float = 1.0


@dataclass(frozen=True)
class Trial:
    """One short training, and what it came to on the validation split."""

    candidate: str
    epochs: int
    validation_accuracy: float


ALONE: Final = Candidate("alone")
CANDIDATES: Final = (
    ALONE,
    Candidate("kd T2", (Kd(method="kd", temperature=2.0, weight=0.9),), 0.1),
    Candidate("kd T4", (Kd(method="kd", temperature=4.0, weight=0.9),), 0.1),
    Candidate("kd_standardised T2", (KdStandardised(method="kd_standardised", weight=4.0),), 0.1),
    Candidate("dkd T4", (Dkd(method="dkd", beta=2.0),), 1.0),
    Candidate("dist T1", (Dist(method="dist", temperature=1.0),), 1.0),
    Candidate("dist T2", (Dist(method="dist", temperature=2.0),), 1.0),
    Candidate("dist T4", (Dist(method="dist", temperature=4.0),), 1.0),
    Candidate("dist T2 weight 5", (Dist(method="dist", temperature=2.0, weight=5.0),), 1.0),
    Candidate("kd T4 without labels", (Kd(method="kd", temperature=4.0, weight=0.9),), 0.0),
)
ROUNDS: Final = 3


def choose(epochs: int, score: Callable[[Candidate, int], float]) -> tuple[Candidate, list[Trial]]:
    """Successive halving over CANDIDATES; the last round trains for `epochs`.

    score: validation accuracy of a candidate after so many epochs.

    Jamieson, Talwalkar 2016, arXiv:1502.07943.
    """
    left: Sequence[Candidate] = CANDIDATES
    trials: list[Trial] = []
    for rounds_left in reversed(range(ROUNDS)):
        length = max(1, ceil(epochs / 2**rounds_left))
        scores = [score(candidate, length) for candidate in left]
        trials += [Trial(c.name, length, value) for c, value in zip(left, scores, strict=True)]
        ranked = sorted(range(len(left)), key=lambda place: -scores[place])  # equal ones stay in order
        left = [left[place] for place in ranked[: max(1, len(left) // 2)]]
    return left[0], trials
