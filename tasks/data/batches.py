"""Samples on their way to the model: gathered from the memory-mapped array, augmented, moved to the device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from tasks.params import Augment

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Samples:
    """A part of a data set, by index into its arrays.

    x: (n, *shape), memory-mapped; y: (n,); indices: (k,), which of them.
    teacher_logits: (k, classes) in the order of `indices`, for distillation.
    """

    x: npt.NDArray[Any]
    y: npt.NDArray[np.int64]
    indices: Indices
    teacher_logits: Tensor | None = None

    def __len__(self) -> int:
        return len(self.indices)

    def inputs(self, positions: Indices | slice) -> Tensor:
        """float32 (len, *shape): the raw inputs at these positions of `indices`."""
        return torch.from_numpy(np.ascontiguousarray(self.x[self.indices[positions]], dtype=np.float32))

    def targets(self, positions: Indices | slice) -> Tensor:
        """int64 (len,)."""
        return torch.from_numpy(self.y[self.indices[positions]])

    def first(self, count: int, seed: int) -> Samples:
        """At most `count` of the samples, drawn without replacement."""
        if count >= len(self):
            return self
        chosen = np.sort(np.random.default_rng(seed).permutation(len(self))[:count])
        logits = None if self.teacher_logits is None else self.teacher_logits[torch.from_numpy(chosen)]
        return Samples(self.x, self.y, self.indices[chosen], logits)


def in_order(samples: Samples, batch_size: int = 1000) -> Iterator[tuple[Tensor, Tensor]]:
    """(inputs, targets) of all samples, in the order of their indices."""
    for start in range(0, len(samples), batch_size):
        part = slice(start, start + batch_size)
        yield samples.inputs(part), samples.targets(part)


def shuffled(samples: Samples, batch_size: int, generator: torch.Generator) -> Iterator[Indices]:
    """Positions of one epoch's batches; an incomplete last batch is left out, as BatchNorm wants equal ones."""
    order = torch.randperm(len(samples), generator=generator).numpy()
    size = min(batch_size, len(samples))
    for start in range(0, len(samples) - size + 1, size):
        yield order[start : start + size]


def steps_per_epoch(samples: Samples, batch_size: int) -> int:
    """How many batches `shuffled` gives."""
    return len(samples) // min(batch_size, len(samples))


def augmented(images: Tensor, augment: Augment, generator: torch.Generator) -> Tensor:
    """Shift (reflecting at the border), mirror and cut out, drawn per image; (batch, channels, height, width)."""
    if images.ndim != 4:
        return images
    batch, channels, height, width = images.shape
    rows, columns = torch.arange(height).expand(batch, -1), torch.arange(width).expand(batch, -1)
    if augment.shift:
        offsets = torch.randint(0, 2 * augment.shift + 1, (2, batch, 1), generator=generator)
        rows, columns = rows + offsets[0], columns + offsets[1]
        images = F.pad(images, [augment.shift] * 4, mode="reflect")
    if augment.flip:
        mirrored = torch.rand(batch, 1, generator=generator) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    if augment.shift or augment.flip:
        sample = torch.arange(batch).view(-1, 1, 1, 1)
        channel = torch.arange(channels).view(1, -1, 1, 1)
        images = images[sample, channel, rows.view(batch, 1, -1, 1), columns.view(batch, 1, 1, -1)]
    if augment.cutout:
        images = images.masked_fill(_squares(batch, height, width, augment.cutout, generator), 0)
    return images


def _squares(batch: int, height: int, width: int, size: int, generator: torch.Generator) -> Tensor:
    """(batch, 1, height, width), True in one square of `size` per image."""
    top = torch.randint(0, max(height - size, 0) + 1, (batch, 1), generator=generator)
    left = torch.randint(0, max(width - size, 0) + 1, (batch, 1), generator=generator)
    in_rows = (torch.arange(height) >= top) & (torch.arange(height) < top + size)
    in_columns = (torch.arange(width) >= left) & (torch.arange(width) < left + size)
    return (in_rows.unsqueeze(2) & in_columns.unsqueeze(1)).unsqueeze(1)
