"""Image augmentation, drawn for a whole epoch at once, so that a sample's view can be made again at any time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tasks.params import Augment

SEEDS = 2**63 - 1


def generator_of(seed: int, stream: int) -> torch.Generator:
    """An independent generator for each (seed, stream): epochs and views, whatever came before them."""
    words = np.random.SeedSequence([seed, stream]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(words[0]) % SEEDS)


@dataclass(frozen=True)
class View:
    """How each sample is changed once.

    offsets: (2, n), pixels down and right in an image padded by `shift`; mirrored: (n,); corners: (2, n), of the square
    that is cut out.
    """

    augment: Augment
    offsets: Tensor
    mirrored: Tensor
    corners: Tensor

    def of(self, images: Tensor, positions: np.ndarray | slice) -> Tensor:
        """The images (batch, channels, height, width) at these positions, changed; other shapes pass unchanged."""
        if images.ndim != 4:
            return images
        augment = self.augment
        if augment.shift or augment.flip:
            images = _moved(images, augment.shift, self.offsets[:, positions], self.mirrored[positions])
        if augment.cutout:
            images = images.masked_fill(_squares(self.corners[:, positions], images.shape, augment.cutout), 0)
        return images


def draw(count: int, shape: tuple[int, ...], augment: Augment, generator: torch.Generator) -> View:
    """One view of `count` samples of `shape`.

    Raises:
        ValueError: the shift is as large as the image.
    """
    height, width = (shape[-2], shape[-1]) if len(shape) == 3 else (1, 1)
    if len(shape) == 3 and augment.shift >= min(height, width):
        raise ValueError(f"augment.shift is {augment.shift}; it must be below the image's {min(height, width)} pixels")
    offsets = torch.randint(0, 2 * augment.shift + 1, (2, count), generator=generator)
    mirrored = torch.rand(count, generator=generator) < (0.5 if augment.flip else 0.0)
    corners = [
        torch.randint(0, max(size - augment.cutout, 0) + 1, (count,), generator=generator) for size in shape[-2:]
    ]
    return View(augment, offsets, mirrored, torch.stack(corners) if len(corners) == 2 else torch.zeros(2, count))


def _moved(images: Tensor, shift: int, offsets: Tensor, mirrored: Tensor) -> Tensor:
    """Shift, reflecting at the border, and mirror: one gather of pixels."""
    batch, channels, height, width = images.shape
    if shift:
        images = F.pad(images, [shift] * 4, mode="reflect")
    rows = torch.arange(height) + offsets[0].unsqueeze(1)
    columns = torch.arange(width) + offsets[1].unsqueeze(1)
    columns = torch.where(mirrored.unsqueeze(1), columns.flip(1), columns)
    pixels = (rows.unsqueeze(2) * images.shape[3] + columns.unsqueeze(1)).view(batch, 1, -1)
    chosen = images.flatten(2).gather(2, pixels.expand(-1, channels, -1))
    return chosen.view(batch, channels, height, width)


def _squares(corners: Tensor, shape: torch.Size, size: int) -> Tensor:
    """(batch, 1, height, width), True in one square of `size` per image."""
    rows, columns = torch.arange(shape[2]), torch.arange(shape[3])
    top, left = corners[0].unsqueeze(1), corners[1].unsqueeze(1)
    in_rows, in_columns = (rows >= top) & (rows < top + size), (columns >= left) & (columns < left + size)
    return (in_rows.unsqueeze(2) & in_columns.unsqueeze(1)).unsqueeze(1)


def mixed(inputs: Tensor, targets: Tensor, augment: Augment, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Pairs blended (mixup) or patched (cutmix), with probabilities (batch, classes) as targets to match.

    targets: (batch, classes) probabilities. Where both are asked for, each batch takes one of them by chance.

    Zhang et al. 2018, arXiv:1710.09412; Yun et al. 2019, arXiv:1905.04899.
    """
    partner = torch.randperm(len(inputs), generator=generator)
    patch = augment.cutmix > 0 and (augment.mixup == 0 or bool(torch.rand(1, generator=generator) < 0.5))
    share = _beta(augment.cutmix if patch else augment.mixup, generator)
    if patch and inputs.ndim == 4:
        inputs, share = _patched(inputs, partner, share, generator)
    else:
        inputs = torch.lerp(inputs[partner], inputs, share)
    return inputs, torch.lerp(targets[partner], targets, share)


def _patched(inputs: Tensor, partner: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, float]:
    height, width = inputs.shape[2:]
    side = (1 - share) ** 0.5
    high, wide = round(height * side), round(width * side)
    top = int(torch.randint(0, height - high + 1, (1,), generator=generator))
    left = int(torch.randint(0, width - wide + 1, (1,), generator=generator))
    inputs = inputs.clone()
    inputs[:, :, top : top + high, left : left + wide] = inputs[partner, :, top : top + high, left : left + wide]
    return inputs, 1 - high * wide / (height * width)


def _beta(alpha: float, generator: torch.Generator) -> float:
    """A draw from Beta(alpha, alpha), whatever the global generator holds."""
    seed = int(torch.randint(0, 2**62, (1,), generator=generator))
    return float(np.random.default_rng(seed).beta(alpha, alpha))
