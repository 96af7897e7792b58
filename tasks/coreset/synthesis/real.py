"""The real samples as a synthesis looks at them, and the made ones that it starts from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from tasks.data.batches import Indices, Samples, in_order
from tasks.data.splits import moments
from tasks.data.synthesized import packed, unpacked
from tasks.device import device, moved


@dataclass(frozen=True)
class Real:
    """Training samples, read in batches and normalised by their own mean and deviation.

    low, high: of all values of a channel or feature, normalised; made samples stay between them.
    members: positions of each class.
    """

    samples: Samples
    mean: Tensor
    deviation: Tensor
    low: Tensor
    high: Tensor
    members: tuple[Indices, ...]

    @property
    def classes(self) -> int:
        """How many there are."""
        return len(self.members)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample."""
        return self.samples.shape

    def inputs(self, positions: Indices) -> Tensor:
        """Normalised, on the device."""
        return self.normalised(self.samples.inputs(positions))

    def normalised(self, raw: Tensor) -> Tensor:
        """Of any samples of the same data."""
        return moved(normalised(raw, self.mean, self.deviation), device()).contiguous()

    def batch(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(inputs, one-hot targets) of random samples of any class."""
        positions = torch.randint(len(self.samples), (size,), generator=generator).numpy()
        targets = self.samples.targets(positions).to(device())
        return self.inputs(positions), F.one_hot(targets, self.classes).float()

    def of_each(self, size: int, generator: torch.Generator) -> Tensor:
        """(classes * size, *shape), class after class, each with replacement where it has fewer."""
        return self.inputs(np.concatenate([_drawn(own, size, generator) for own in self.members]))

    @torch.no_grad()
    def keep_within_(self, images: Tensor) -> None:
        """Values that no real sample has are brought back to the nearest that one has."""
        images.clamp_(self.low.to(images.device), self.high.to(images.device))

    def raw(self, images: Tensor) -> npt.NDArray[Any]:
        """As the data set stores them: its values, in its type."""
        values = (images.cpu().double() * self.deviation + self.mean).numpy()
        kind = self.samples.x.dtype
        return np.rint(values).astype(kind) if kind.kind in "iu" else values.astype(kind)


@dataclass(frozen=True)
class Made:
    """Made samples: images (classes * per_class, *shape), normalised, class after class; formation: parts of each.

    labels: (classes * per_class * formation^2, classes), probabilities.
    """

    images: Tensor
    labels: Tensor
    formation: int

    def inputs(self) -> Tensor:
        """As a network sees them: one for each label."""
        return unpacked(self.images, self.formation)


def real_samples(samples: Samples, classes: int) -> Real:
    """Of the training split."""
    labels = samples.targets(slice(None)).numpy()
    members = tuple(np.flatnonzero(labels == label) for label in range(classes))
    mean, deviation = moments(samples)
    low, high = _limits(samples)
    return Real(samples, mean, deviation, normalised(low, mean, deviation), normalised(high, mean, deviation), members)


def normalised(raw: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """float32; a constant input carries nothing, and stays at zero."""
    return ((raw - mean) * torch.where(deviation > 0, 1 / deviation.clamp_min(1e-12), 0.0)).float()


def drawn(real: Real, per_class: int, formation: int, generator: torch.Generator) -> Made:
    """Random real samples with one-hot labels: where a synthesis starts, and what it has to beat."""
    count = per_class * formation**2
    images = packed(real.of_each(count, generator), formation)
    labels = torch.eye(real.classes, device=images.device).repeat_interleave(count, 0)
    return Made(images, labels, formation)


def _limits(samples: Samples) -> tuple[Tensor, Tensor]:
    """Least and greatest value of each channel (channels, 1, 1) or feature (features,)."""
    low, high = [], []
    for inputs, _ in in_order(samples):
        values = inputs.flatten(2).movedim(1, 2).flatten(0, 1) if inputs.ndim > 2 else inputs
        low.append(values.amin(0))
        high.append(values.amax(0))
    shape = (-1, *[1] * (len(samples.shape) - 1))
    return torch.stack(low).amin(0).view(shape), torch.stack(high).amax(0).view(shape)


def _drawn(members: Indices, size: int, generator: torch.Generator) -> Indices:
    rounds = -(-size // len(members))
    order = torch.cat([torch.randperm(len(members), generator=generator) for _ in range(rounds)])
    chosen: Indices = members[order[:size].numpy()]
    return chosen
