"""The kept and the dropped samples as dots on a plane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA

from tasks.coreset.evidence import Features, Indices

MOST_DOTS: Final = 1000  # of the kept, and of the dropped


@dataclass(frozen=True)
class Dots:
    """places: (m, 2); samples: (m,), which of the training ones; kept: (m,); variance: share that the plane holds."""

    places: npt.NDArray[np.float64]
    samples: Indices
    kept: npt.NDArray[np.bool_]
    variance: float


def embedding(features: Features, chosen: Indices, rng: np.random.Generator) -> Dots:
    """At most MOST_DOTS random ones of either, on the first two principal components of them all together."""
    dropped = np.setdiff1d(np.arange(len(features)), chosen)
    samples = np.sort(np.concatenate([rng.permutation(part)[:MOST_DOTS] for part in (chosen, dropped)]))
    shown = features[samples].astype(np.float64)
    axes = min(2, *shown.shape)
    places = np.zeros((len(samples), 2))
    if not np.ptp(shown, axis=0).any():
        return Dots(places, samples, np.isin(samples, chosen), 1.0)
    plane = PCA(axes, svd_solver="randomized", random_state=int(rng.integers(1 << 31))).fit(shown)
    places[:, :axes] = plane.transform(shown)
    return Dots(places, samples, np.isin(samples, chosen), float(plane.explained_variance_ratio_.sum()))
