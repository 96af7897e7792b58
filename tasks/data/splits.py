"""The data set with its splits and coreset, opened as samples ready for training and measuring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tasks.data.batches import Samples
from tasks.data.dataset import Card, Dataset, load_dataset
from tasks.data.synthesized import load_synthesized

BLOCK = 4096


@dataclass(frozen=True)
class Splits:
    """Disjoint samples. `test` is for evaluate alone; `coreset` is `train` where no coreset was read."""

    card: Card
    train: Samples
    validation: Samples
    test: Samples
    coreset: Samples


def load_splits(reads: Mapping[str, Path]) -> Splits:
    """Open what the stage reads: `data`, `split` and, where it is among them, `coreset`.

    Raises:
        ValueError: an index points outside the data, or a made set is not one.
    """
    data = load_dataset(reads["data"])
    parts = {name: _samples(data, reads["split"], name) for name in ("train", "validation", "test")}
    coreset = _coreset(data, reads["coreset"]) if "coreset" in reads else parts["train"]
    return Splits(data.card, coreset=coreset, **parts)


def _coreset(data: Dataset, folder: Path) -> Samples:
    """Chosen samples, or made ones."""
    if (folder / "card.json").is_file():
        return load_synthesized(folder, data.card)
    return _samples(data, folder / "indices.npz", "indices")


def moments(samples: Samples) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the inputs: per channel for images (channels, 1, 1), per feature for tables."""
    count, total, squares = 0, torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    for start in range(0, len(samples), BLOCK):
        block = samples.inputs(slice(start, start + BLOCK)).double()
        axes = (0, *range(2, block.ndim))
        count += block.numel() // block.shape[1]
        total, squares = total + block.sum(axes), squares + block.square().sum(axes)
    mean = total / count
    variance = (squares / count - mean.square()).clamp_min(0)
    shape = (-1, *[1] * (samples.x.ndim - 2))
    return mean.view(shape), variance.sqrt().view(shape)


def _samples(data: Dataset, path: Path, name: str) -> Samples:
    with np.load(path, allow_pickle=False) as file:
        if name not in file:
            raise ValueError(f"{path}: has no '{name}', only {', '.join(file.files)}")
        indices = file[name].astype(np.int64)
        weights = file["weights"].astype(np.float64) if "weights" in file else None
    if weights is not None and not (
        len(weights) == len(indices) and np.isfinite(weights).all() and (weights >= 0).all()
    ):
        raise ValueError(f"{path}: 'weights' must be one number of at least 0 per index")
    if len(indices) and not 0 <= indices.min() <= indices.max() < len(data.y):
        raise ValueError(f"{path}: '{name}' points outside the {len(data.y)} samples of {data.folder}")
    # equal weights say nothing, and training need not resample for them
    uneven = weights is not None and len(weights) and weights.min() < weights.max()
    return Samples(data.x, data.y, indices, weights if uneven else None)
