"""What corruptions cost a file beyond what they cost the reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import ttest_1samp

from tasks.measure.paired import holm

Hits = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Robustness:
    """One corruption; shares are means over the severities and the same samples.

    reference, accuracy: of the reference and of the file; drop: between them.
    increase: of the drop, over that on the clean samples; spread: its standard deviation from sample to sample;
    p: that it is chance, one-sided paired t-test, adjusted by Holm.
    """

    name: str
    reference: float
    accuracy: float
    drop: float
    increase: float
    spread: float
    p: float


def compare_corrupted(clean: tuple[Hits, Hits], corrupted: Mapping[str, tuple[Hits, Hits]]) -> list[Robustness]:
    """(reference right, file right): clean (n,) each; by corruption (severities, n) each, the same n samples."""
    lost = clean[0].astype(float) - clean[1]
    increases = {name: reference.mean(0) - right.mean(0) - lost for name, (reference, right) in corrupted.items()}
    adjusted = holm([_larger_by_chance(increase) for increase in increases.values()])
    return [
        Robustness(
            name,
            float(reference.mean()),
            float(right.mean()),
            float(reference.mean() - right.mean()),
            float(increases[name].mean()),
            float(increases[name].std()),
            p,
        )
        for (name, (reference, right)), p in zip(corrupted.items(), adjusted, strict=True)
    ]


def _larger_by_chance(increase: npt.NDArray[np.float64]) -> float:
    """p of a mean of 0; where all samples say the same there is no spread to go by."""
    if len(increase) < 2 or np.ptp(increase) < 1e-12:
        return 0.0 if len(increase) > 1 and increase[0] > 0 else 1.0
    return float(ttest_1samp(increase, 0.0, alternative="greater").pvalue)
