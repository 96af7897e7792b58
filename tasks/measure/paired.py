"""Two models on the same samples: how much worse one is, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log, log1p, sqrt

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest, chi2

Z_ONE_SIDED_95 = 1.6448536269514722
# (z of 95 % one-sided + z of 80 % power), for the smallest drop a test of this size can decide on
Z_DETECT = 1.6448536269514722 + 0.8416212335729143
EXACT_BELOW = 25


@dataclass(frozen=True)
class Drop:
    """Accuracy lost against the reference, its upper one-sided 95 % limit, and what n samples could have shown.

    wald: that limit before the floor of `unseen`.
    negative_flips, positive_flips: shares of all samples that are wrong now and were right, and the reverse.
    """

    drop: float
    upper95: float
    wald: float
    smallest_detectable: float
    mcnemar_p: float
    negative_flips: float
    positive_flips: float


def paired_drop(reference_right: npt.NDArray[np.bool_], right: npt.NDArray[np.bool_]) -> Drop:
    """Compare sample by sample, (n,) each.

    The limit is Wald's for paired proportions, d + z * sqrt((b + c) - (b - c)^2 / n) / n, and never below `unseen(n)`.
    """
    n = len(right)
    lost, gained = int((reference_right & ~right).sum()), int((~reference_right & right).sum())
    drop = (lost - gained) / n
    wald = drop + Z_ONE_SIDED_95 * sqrt(max(lost + gained - (lost - gained) ** 2 / n, 0)) / n
    return Drop(
        drop=drop,
        upper95=max(wald, unseen(n)),
        wald=wald,
        smallest_detectable=Z_DETECT * sqrt(lost + gained) / n,
        mcnemar_p=mcnemar(lost, gained),
        negative_flips=lost / n,
        positive_flips=gained / n,
    )


def unseen(n: float) -> float:
    """1 - 0.05^(1/n): n samples without a single loss cannot rule out a loss rarer than that."""
    return float(1 - 0.05 ** (1 / n))


def samples_to_prove(drop: Drop, samples: int, limit: float) -> int | None:
    """How many samples bring the upper limit down to `limit` if they disagree as these did; None: no number.

    Wald's half width shrinks with the square root of n, the floor of `unseen` with n itself.
    """
    if drop.drop >= limit or limit <= 0:
        return None
    width = drop.wald - drop.drop
    return max(ceil(samples * (width / (limit - drop.drop)) ** 2), ceil(log(0.05) / log1p(-min(limit, 0.999))))


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
