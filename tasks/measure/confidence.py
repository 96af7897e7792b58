"""How far a model's probabilities can be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from sklearn.metrics import brier_score_loss, log_loss

BINS: Final = 15


@dataclass(frozen=True)
class Confidence:
    """nll: mean negative log-likelihood, nats; brier: in [0, 2]; ece: expected calibration error, in [0, 1]."""

    nll: float
    brier: float
    ece: float


def confidence(targets: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float64]) -> Confidence:
    """targets: (n,); probabilities: (n, classes), rows sum to 1.

    Brier 1950, the squares summed over classes.
    """
    labels = list(range(probabilities.shape[1]))
    return Confidence(
        nll=float(log_loss(targets, probabilities, labels=labels)),
        brier=float(brier_score_loss(targets, probabilities, labels=labels, scale_by_half=False)),
        ece=calibration_error(targets, probabilities),
    )


def reliability(
    targets: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float64]
) -> list[tuple[float, float, int]]:
    """(mean of the largest probability, share of right answers, samples) of each of BINS equal ranges that has any."""
    largest, right, place = _placed(targets, probabilities)
    counts = np.bincount(place, minlength=BINS)
    sums = zip(np.bincount(place, largest, BINS), np.bincount(place, right, BINS), counts, strict=True)
    return [(float(sure / n), float(hits / n), int(n)) for sure, hits, n in sums if n]


def calibration_error(targets: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float64]) -> float:
    """Distance between the largest probability and the share of right answers, over BINS equal ranges, by their sizes.

    Guo et al. 2017, arXiv:1706.04599.
    """
    largest, right, place = _placed(targets, probabilities)
    apart = np.bincount(place, largest, BINS) - np.bincount(place, right, BINS)
    return float(np.abs(apart).sum() / len(targets))


def _placed(
    targets: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """The largest probability of each row, whether it is the right one's, and its range."""
    largest = probabilities.max(1)
    return largest, probabilities.argmax(1) == targets, np.minimum((largest * BINS).astype(np.int64), BINS - 1)
