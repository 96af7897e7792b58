"""Samples on their way to the model: gathered from the memory-mapped array, in the order of an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Samples:
    """A part of a data set, by index into its arrays.

    x: (n, *shape), memory-mapped; y: (n,), classes or numbers, or (n, classes), probabilities.
    indices: (k,), which of them.
    weights: (k,), how often each counts in training, relative to the others; None: all alike.
    origin: hash of arrays that are not the data set's own, as those of a made set.
    """

    x: npt.NDArray[Any]
    y: npt.NDArray[Any]
    indices: Indices
    weights: npt.NDArray[np.float64] | None = None
    origin: str = ""

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample."""
        return tuple(self.x.shape[1:])

    def inputs(self, positions: Indices | slice) -> Tensor:
        """float32 (len, *shape): the raw inputs at these positions of `indices`."""
        return torch.from_numpy(np.ascontiguousarray(self.x[self.indices[positions]], dtype=np.float32))

    def targets(self, positions: Indices | slice) -> Tensor:
        """(len,): int64 classes, or float32 numbers; float32 (len, classes): probabilities."""
        return torch.from_numpy(self.y[self.indices[positions]])

    def identity(self) -> bytes:
        """The same for the same samples of one data set only, weights aside."""
        return self.origin.encode() + self.indices.tobytes()

    def first(self, count: int, seed: int) -> Samples:
        """At most `count` of the samples, drawn without replacement."""
        if count >= len(self):
            return self
        chosen = np.sort(np.random.default_rng(seed).permutation(len(self))[:count])
        weights = None if self.weights is None else self.weights[chosen]
        return replace(self, indices=self.indices[chosen], weights=weights)


def in_order(samples: Samples, batch_size: int = 1000) -> Iterator[tuple[Tensor, Tensor]]:
    """(inputs, targets) of all samples, in the order of their indices."""
    for start in range(0, len(samples), batch_size):
        part = slice(start, start + batch_size)
        yield samples.inputs(part), samples.targets(part)


def shuffled(samples: Samples, batch_size: int, generator: torch.Generator) -> Iterator[Indices]:
    """Positions of one epoch's batches; an incomplete last batch is left out, as BatchNorm wants equal ones."""
    order = torch.randperm(len(samples), generator=generator).numpy()
    if samples.weights is not None:
        order = _resampled(samples.weights, float(torch.rand(1, generator=generator)))[order]
    size = min(batch_size, len(samples))
    for start in range(0, len(samples) - size + 1, size):
        yield order[start : start + size]


def steps_per_epoch(samples: Samples, batch_size: int) -> int:
    """How many batches `shuffled` gives."""
    return len(samples) // min(batch_size, len(samples))


def balanced(samples: Samples) -> Samples:
    """The same samples, weighted so that every class counts alike in training; of probabilities, the likeliest."""
    targets = classes_of(samples.targets(slice(None))).numpy()
    own = np.ones(len(samples)) if samples.weights is None else samples.weights
    totals = np.bincount(targets, own)
    return replace(samples, weights=own / totals[targets])


def classes_of(targets: Tensor) -> Tensor:
    """(n,): classes as they are, and the likeliest of each row of probabilities."""
    return targets.argmax(1) if targets.ndim == 2 else targets


def _resampled(weights: npt.NDArray[np.float64], offset: float) -> Indices:
    """Positions by weight, as many as there are weights: each at least its whole share of times, at most one more.

    Systematic resampling: any loss can then stay a plain mean. Kitagawa 1996, doi:10.2307/1390750.
    """
    points = (np.arange(len(weights)) + offset) / len(weights)
    shares = np.cumsum(weights) / np.sum(weights)
    return np.minimum(np.searchsorted(shares, points, side="right"), len(weights) - 1)
