"""Whether the difference between two sets' trainings is more than chance."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import t

Right = npt.NDArray[np.float64]


def gain(chosen: Right, random: Right) -> tuple[float, float]:
    """Accuracy of the chosen set's networks less that of the random sets', and half the width of its 95 % interval.

    chosen, random: (trainings, n) each, share of architectures that answer a validation sample rightly. The trainings
    of one set's networks are independent of each other's and of the other's; the n samples are the same for all.

    Three chances add up in the interval: of training on the chosen set, of drawing a random set and training on it,
    and of the samples that happen to validate. The last is what is left of the variance between samples once the
    trainings' own share in it is out. Degrees of freedom by Satterthwaite. A training on each side says nothing of
    chance: infinite. Readers and cases instead of trainings and samples: Hillis 2007, doi:10.1002/sim.2532.
    """
    mean = float(chosen.mean() - random.mean())
    samples = chosen.shape[1]
    if min(len(chosen), len(random), samples) < 2:
        return mean, float("inf")
    training = [one.mean(1).var(ddof=1) / len(one) for one in (chosen, random)]
    between = (chosen.mean(0) - random.mean(0)).var(ddof=1) / samples
    variances = np.array([*training, max(between - _interaction(chosen) - _interaction(random), 0.0)])
    degrees = np.array([len(chosen) - 1, len(random) - 1, samples - 1])
    if not variances.any():
        return mean, 0.0
    freedom = variances.sum() ** 2 / (variances**2 / degrees).sum()
    return mean, float(t.ppf(0.975, freedom) * np.sqrt(variances.sum()))


def interval(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Mean, and half the width of its 95 % interval by Student's t: infinite for a single value."""
    if len(values) < 2:
        return float(values.mean()), float("inf")
    error = values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(t.ppf(0.975, len(values) - 1) * error)


def verdict(gain: float, half_width: float) -> str:
    """The sentence, in percentage points."""
    if half_width == np.inf:
        return f"is not proven to beat random ({100 * gain:.2f} pp, of one training each)"
    figure = f"{100 * gain:.2f} +/- {100 * half_width:.2f} pp"
    return f"beats random by {figure}" if gain > half_width else f"does not beat random ({figure})"


def _interaction(right: Right) -> float:
    """What the chance of each single answer adds to the variance of a mean over trainings and samples."""
    trainings, samples = right.shape
    rest = right - right.mean(0) - right.mean(1, keepdims=True) + right.mean()
    return float(np.square(rest).sum() / ((trainings - 1) * (samples - 1)) / (trainings * samples))
