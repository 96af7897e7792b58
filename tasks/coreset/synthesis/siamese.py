"""Differentiable siamese augmentation: one random change, done alike to the real samples and to the made ones.

Zhao & Bilen 2021, arXiv:2102.08259.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor
from torch.nn import functional as F

from tasks.params.synthesis import Siamese


@dataclass(frozen=True)
class Change:
    """n changes, each for one image; a single one is for all images alike.

    affine: (n, 2, 3), from places in the changed image to places in the given one, sides from -1 to 1.
    brightness: (n, 1, 1, 1), added; contrast: (n, 1, 1, 1), times the distance from the image's mean.
    corners: (n, 2), top and left of the square that is cut out; side: of that square, both in shares of the image.
    """

    affine: Tensor
    brightness: Tensor
    contrast: Tensor
    corners: Tensor
    side: float

    def __call__(self, images: Tensor) -> Tensor:
        """(batch, channels, height, width), changed, zero where nothing was; differentiable. Tables pass unchanged."""
        if images.ndim != 4:
            return images
        affine = self.affine.to(images.device).expand(len(images), -1, -1)
        grid = F.affine_grid(affine, list(images.shape), align_corners=False)
        moved = F.grid_sample(images, grid, align_corners=False)
        mean = moved.mean((1, 2, 3), keepdim=True)
        lit = (moved - mean) * self.contrast.to(images.device) + mean + self.brightness.to(images.device)
        return lit * self._kept(images.shape).to(images.device) if self.side else lit

    def _kept(self, shape: torch.Size) -> Tensor:
        """(n, 1, height, width), zero in the square."""
        inside = []
        for axis, size in enumerate(shape[2:]):
            place = (torch.arange(size) + 0.5) / size - self.corners[:, axis, None]
            inside.append((place >= 0) & (place < self.side))
        return (~(inside[0][:, :, None] & inside[1][:, None, :])).unsqueeze(1).float()


def draw_change(count: int, params: Siamese, generator: torch.Generator) -> Change:
    """`count` independent changes, all of which together change an image."""

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.empty(count, *shape).uniform_(low, high, generator=generator)

    angle = uniform(-params.rotate, params.rotate) * (pi / 180)
    spread = torch.tensor(params.scale).log()
    wide, high = ((uniform(-1, 1) * spread).exp() for _ in range(2))
    mirror = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0) if params.flip else torch.ones(count)
    rows = [angle.cos() * wide * mirror, -angle.sin() * high, angle.sin() * wide * mirror, angle.cos() * high]
    linear = torch.stack(rows, 1).view(count, 2, 2)
    # a side is 2 long
    shift = uniform(-2 * params.shift, 2 * params.shift, 2, 1)
    return Change(
        torch.cat([linear, shift], 2),
        uniform(-params.brightness, params.brightness, 1, 1, 1),
        1 + uniform(-params.contrast, params.contrast, 1, 1, 1),
        uniform(-params.cutout / 2, 1 - params.cutout / 2, 2),
        params.cutout,
    )
