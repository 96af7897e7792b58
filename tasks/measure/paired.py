"""Two models on the same samples: how much worse one is, and how sure that is."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.stats import binomtest, chi2, norm

ALPHA = 0.05
# (z of 95 % one-sided + z of 80 % power), for the smallest drop a test of this size can decide on
Z_DETECT = 1.6448536269514722 + 0.8416212335729143
EXACT_BELOW = 25
RESAMPLES = 10_000


@dataclass(frozen=True)
class Drop:
    """Accuracy lost against the reference, its upper one-sided 95 % limit, and what n samples could have shown.

    negative_flips, positive_flips: shares of all samples that are wrong now and were right, and the reverse.
    """

    drop: float
    upper95: float
    smallest_detectable: float
    mcnemar_p: float
    negative_flips: float
    positive_flips: float


def paired_drop(reference_right: npt.NDArray[np.bool_], right: npt.NDArray[np.bool_]) -> Drop:
    """Compare sample by sample, (n,) each.

    The limit is the score test's, and never below `unseen(n)`.
    """
    n = len(right)
    lost, gained = int((reference_right & ~right).sum()), int((~reference_right & right).sum())
    drop = (lost - gained) / n
    return Drop(
        drop=drop,
        upper95=upper_limit(lost, gained, n),
        smallest_detectable=Z_DETECT * sqrt(lost + gained) / n,
        mcnemar_p=mcnemar(lost, gained),
        negative_flips=lost / n,
        positive_flips=gained / n,
    )


def score_limit(lost: float, gained: float, n: int, alpha: float = ALPHA) -> float:
    """The drop that a one-sided score test at `alpha` just does not reject.

    Wald's limit, d + z * sqrt((b + c) - (b - c)^2 / n) / n, lets a model at the margin pass in up to 7 % of cases.

    Tango 1998, Statistics in Medicine 17:891.
    """
    drop, z = (lost - gained) / n, float(norm.isf(alpha))
    if lost >= n:
        return 1.0

    def distance(true_drop: float) -> float:
        linear = -lost - gained + (2 * n - lost + gained) * true_drop
        root = sqrt(linear**2 + 8 * n * gained * true_drop * (1 - true_drop))
        gain = (root - linear) / (4 * n)  # likeliest share of gains if the drop were that
        spread = sqrt(max(n * (2 * gain + true_drop * (1 - true_drop)), 1e-12))
        return (lost - gained - n * true_drop) / spread + z

    return float(brentq(distance, drop, 1 - 1e-9))


def bootstrap_interval(drop: Drop, n: int, seed: int = 0) -> tuple[float, float]:
    """5th and 95th percentile of the drop when the n pairs are drawn anew, with replacement, RESAMPLES times.

    Drawing pairs is drawing how many of them are lost and gained. Efron 1979, Annals of Statistics 7:1.
    """
    equal = max(0.0, 1 - drop.negative_flips - drop.positive_flips)  # 1 - 0.8 - 0.2 is below 0
    shares = [drop.negative_flips, drop.positive_flips, equal]
    draws = np.random.default_rng(seed).multinomial(n, shares, RESAMPLES)
    low, high = np.percentile((draws[:, 0] - draws[:, 1]) / n, [5, 95])
    return float(low), float(high)


def unseen(n: int, alpha: float = ALPHA) -> float:
    """1 - alpha^(1/n): n samples without a single loss cannot rule out a loss rarer than that."""
    return float(1 - alpha ** (1 / n))


def samples_to_prove(drop: Drop, limit: float) -> int | None:
    """How many samples bring the upper limit down to `limit` if they disagree as these did; None: no number does."""
    if drop.drop >= limit or limit <= 0:
        return None

    def proven(n: int) -> bool:
        return upper_limit(drop.negative_flips * n, drop.positive_flips * n, n) <= limit

    most = 1
    while not proven(most):
        most *= 2
    return bisect_left(range(most + 1), True, lo=1, key=proven)


def upper_limit(lost: float, gained: float, n: int, alpha: float = ALPHA) -> float:
    """What the true drop exceeds in at most `alpha` of all draws, where `lost` and `gained` of n samples changed."""
    return max(score_limit(lost, gained, n, alpha), unseen(n, alpha))


def mcnemar(lost: int, gained: int) -> float:
    """Two-sided p that losses and gains are equally likely: exact below 25 discordant pairs, else corrected chi2."""
    discordant = lost + gained
    if discordant < EXACT_BELOW:
        return mcnemar_exact(lost, gained)
    return float(chi2.sf((abs(lost - gained) - 1) ** 2 / discordant, 1))


def mcnemar_exact(lost: int, gained: int) -> float:
    """Two-sided binomial p that losses and gains are equally likely; 1 where there is neither."""
    return float(binomtest(lost, lost + gained).pvalue) if lost + gained else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted for all of them, so that the chance of any false alarm stays below the level; in the same order.

    Holm 1979, Scandinavian Journal of Statistics 6:65.
    """
    order = np.argsort(p_values, kind="stable")
    scaled = [min(1.0, (len(order) - rank) * p_values[place]) for rank, place in enumerate(order)]
    adjusted = np.empty(len(order))
    adjusted[order] = np.maximum.accumulate(scaled) if scaled else scaled
    return [float(p) for p in adjusted]
