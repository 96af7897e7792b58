"""What selections know about the training samples, and what they answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Concatenate

import numpy as np
import numpy.typing as npt

Features = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]
Quota = Mapping[int, int]


@dataclass(frozen=True)
class Evidence:
    """The n training samples, as far as a selection may look at them.

    features: (n, d); labels: (n,), class indices.
    groups: (n,), which entry of the quota a sample counts towards; None: its class.
    probabilities: (n, classes), of the proxy early in its training.
    hidden_norms: (n,), length of the input of its last layer then, with a 1 appended for the bias.
    right: (epochs, n), whether its answer was right after each epoch.
    margins: (epochs, n), p of the own class minus the largest other p after each epoch.
    recalls: (classes,), share of each class that it answers rightly at the end.
    """

    features: Features
    labels: Indices
    groups: Indices | None = None
    probabilities: npt.NDArray[np.float32] | None = None
    hidden_norms: npt.NDArray[np.float32] | None = None
    right: npt.NDArray[np.bool_] | None = None
    margins: npt.NDArray[np.float16] | None = None
    recalls: npt.NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def parts(self, quota: Quota) -> Iterator[tuple[Indices, int]]:
        """(samples, how many of them) of each entry of the quota."""
        groups = self.labels if self.groups is None else self.groups
        for group, count in quota.items():
            yield np.flatnonzero(groups == group), count

    def take(self, kept: Indices) -> Evidence:
        """Of these samples alone."""
        changed: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and field.name != "recalls":
                changed[field.name] = value[:, kept] if field.name in ("right", "margins") else value[kept]
        return replace(self, **changed)

    def need(self, name: str) -> Any:
        """One of the arrays that only a proxy's training gives.

        Raises:
            ValueError: it was not recorded.
        """
        value = getattr(self, name)
        if value is None:
            raise ValueError(f"coreset: this method needs the proxy's {name}, which were not recorded")
        return value


@dataclass(frozen=True)
class Chosen:
    """indices: (k,), unique; weights: (k,), how many training samples each stands for, n in all; note: a warning."""

    indices: Indices
    weights: npt.NDArray[np.float64]
    note: str = ""


# the knobs are keyword-only and have defaults
Selection = Callable[Concatenate[Evidence, Quota, np.random.Generator, ...], Chosen]
