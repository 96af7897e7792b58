"""What the world does to inputs: seeded corruptions of images and of table rows, in five severities.

After Hendrycks & Dietterich 2019, arXiv:1903.12261, with strengths relative to the data's own range and spread.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional as F

from tasks.data.augment import generator_of
from tasks.data.batches import Samples
from tasks.data.dataset import MISSING, Card
from tasks.data.splits import Splits, moments

MODERATE: Final = 3
RANGED: Final = 10_000  # training samples that say how low and high values go

Inputs = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Scene:
    """What corruptions are measured by: the training inputs.

    low, high: of all values. mean, deviation: per channel of images (channels, 1, 1), per feature of tables.
    categories: the features of each one-hot column of a table; absent: the one of them that stands for a cell without
    a value, where training had such cells. numeric: its other features.
    """

    low: float
    high: float
    mean: Inputs
    deviation: Inputs
    categories: tuple[range, ...]
    absent: tuple[int | None, ...]
    numeric: tuple[int, ...]


Corruption = Callable[[Inputs, Scene, int, torch.Generator], Inputs]


def scene_of(data: Splits) -> Scene:
    """Read off the training split."""
    seen = data.train.first(RANGED, 0).inputs(slice(None))
    mean, deviation = moments(data.train)
    categories = _categories(data.card)
    coded = {feature for features in categories for feature in features}
    return Scene(
        low=float(seen.min()),
        high=float(seen.max()),
        mean=mean.float().numpy(),
        deviation=deviation.float().numpy(),
        categories=categories,
        absent=tuple(
            features[names.index(MISSING)] if MISSING in names else None
            for names, features in zip(_named(data.card), categories, strict=True)
        ),
        numeric=tuple(i for i in range(data.card.input_shape[0]) if i not in coded)
        if data.card.kind == "tabular"
        else (),
    )


def _named(card: Card) -> list[tuple[str, ...]]:
    return [column.categories for column in card.columns if column.kind == "categorical"]


def _categories(card: Card) -> tuple[range, ...]:
    found, start = [], 0
    for column in card.columns:
        width = len(column.categories) if column.kind == "categorical" else 1
        if column.kind == "categorical":
            found.append(range(start, start + width))
        start += width
    return tuple(found)


def applicable(card: Card) -> tuple[str, ...]:
    """The corruptions that can be done to such data: a swap of categories needs a column of them."""
    names = CORRUPTIONS[card.kind]
    return tuple(name for name in names if name != "category_swap" or _categories(card))


def corrupted(samples: Samples, scene: Scene, name: str, severity: int, seed: int) -> Samples:
    """The same samples and targets with corrupted inputs, float32; the same arguments give the same bytes."""
    generator = generator_of(seed, zlib.crc32(f"{name} {severity}".encode()))
    inputs = samples.inputs(slice(None)).numpy()
    changed = np.ascontiguousarray(ALL[name](inputs, scene, severity, generator), dtype=np.float32)
    targets = samples.targets(slice(None)).numpy()
    return Samples(changed, targets, np.arange(len(targets)), origin=f"{name} {severity}")


def noise(images: Inputs, scene: Scene, severity: int, generator: torch.Generator) -> Inputs:
    """Gaussian, 4 to 20 % of the range as standard deviation."""
    spread = 0.04 * severity * (scene.high - scene.low)
    return _within(images + spread * _normal(images, generator), scene)


def blur(images: Inputs, scene: Scene, severity: int, generator: torch.Generator) -> Inputs:
    """Gaussian, 1.2 to 6 % of the shorter side as standard deviation."""
    spread = 0.012 * severity * min(images.shape[2:])
    return np.asarray(gaussian_filter(images, (0, 0, spread, spread), mode="reflect"))


def shift(images: Inputs, scene: Scene, severity: int, generator: torch.Generator) -> Inputs:
    """Moved by 4 to 20 % of the shorter side, each in a direction of its own; reflected at the border."""
    angle = 2 * math.pi * torch.rand(len(images), generator=generator)
    height, width = images.shape[2:]
    distance = 2 * 0.04 * severity * min(height, width)  # torch counts an image as 2 wide
    one, zero = torch.ones(len(images)), torch.zeros(len(images))
    move = [one, zero, distance / width * angle.cos(), zero, one, distance / height * angle.sin()]
    return _warped(images, move, "reflection")


def rotate(images: Inputs, scene: Scene, severity: int, generator: torch.Generator) -> Inputs:
    """By 6 to 30 degrees, to either side at random; the border's pixels go on outside."""
    side = torch.randint(0, 2, (len(images),), generator=generator) * 2 - 1
    angle = side * math.radians(6 * severity)
    cosine, sine, zero = angle.cos(), angle.sin(), torch.zeros(len(images))
    height, width = images.shape[2:]
    return _warped(images, [cosine, -sine * height / width, zero, sine * width / height, cosine, zero], "border")


def _warped(images: Inputs, matrix: Sequence[Tensor], outside: str) -> Inputs:
    """matrix: the six entries, (n,) each, of where each place is read from."""
    grid = F.affine_grid(torch.stack(list(matrix), 1).view(-1, 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(torch.from_numpy(images), grid, padding_mode=outside, align_corners=False).numpy()


def brightness(images: Inputs, scene: Scene, severity: int, generator: torch.Generator) -> Inputs:
    """Brighter by 8 to 40 % of the range."""
    return _within(images + 0.08 * severity * (scene.high - scene.low), scene)


def contrast(images: Inputs, scene: Scene, severity: int, generator: torch.Generator) -> Inputs:
    """Each image drawn towards its own mean: 85 to 25 % of its contrast are left."""
    mean = images.mean((1, 2, 3), keepdims=True)
    return np.asarray(mean + (1 - 0.15 * severity) * (images - mean))


def inverse(images: Inputs, scene: Scene, severity: int, generator: torch.Generator) -> Inputs:
    """Dark becomes light, in 20 to 100 % of the images: half an inversion would be a grey square."""
    turned = _share(len(images), 0.2 * severity, generator)[:, None, None, None]
    return np.where(turned, np.float32(scene.low + scene.high) - images, images)


def missing(rows: Inputs, scene: Scene, severity: int, generator: torch.Generator) -> Inputs:
    """5 to 25 % of the entries are lost: a number becomes the training mean, a category "(missing)" or none."""
    changed = rows.copy()
    for feature in scene.numeric:
        changed[_share(len(rows), 0.05 * severity, generator), feature] = scene.mean[feature]
    for features, absent in zip(scene.categories, scene.absent, strict=True):
        lost = _share(len(rows), 0.05 * severity, generator)
        changed[lost, features.start : features.stop] = 0
        if absent is not None:
            changed[lost, absent] = 1
    return changed


def jitter(rows: Inputs, scene: Scene, severity: int, generator: torch.Generator) -> Inputs:
    """Gaussian noise on numbers, 10 to 50 % of their standard deviation."""
    changed, numeric = rows.copy(), list(scene.numeric)
    changed[:, numeric] += 0.1 * severity * scene.deviation[numeric] * _normal(rows[:, numeric], generator)
    return changed


def category_swap(rows: Inputs, scene: Scene, severity: int, generator: torch.Generator) -> Inputs:
    """5 to 25 % of the entries of each categorical column become another category, drawn evenly."""
    changed = rows.copy()
    for features in scene.categories:
        swapped = _share(len(rows), 0.05 * severity, generator)
        further = torch.randint(1, max(len(features), 2), (len(rows),), generator=generator).numpy()
        chosen = (rows[:, features].argmax(1) + further) % len(features)
        changed[swapped, features.start : features.stop] = np.eye(len(features), dtype=np.float32)[chosen[swapped]]
    return changed


CORRUPTIONS: Final[Mapping[str, Mapping[str, Corruption]]] = {  # by kind of data
    "image": {
        "noise": noise,
        "blur": blur,
        "shift": shift,
        "rotate": rotate,
        "brightness": brightness,
        "contrast": contrast,
        "inverse": inverse,
    },
    "tabular": {"missing": missing, "jitter": jitter, "category_swap": category_swap},
}
ALL: Final[Mapping[str, Corruption]] = {name: f for family in CORRUPTIONS.values() for name, f in family.items()}


def _normal(like: Inputs, generator: torch.Generator) -> Inputs:
    return torch.randn(like.shape, generator=generator).numpy()


def _share(count: int, probability: float, generator: torch.Generator) -> npt.NDArray[np.bool_]:
    return (torch.rand(count, generator=generator) < probability).numpy()


def _within(images: Inputs, scene: Scene) -> Inputs:
    return np.clip(images, scene.low, scene.high)
