"""Which way samples are made, from params to arrays as the data set stores them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import torch

from tasks.coreset.synthesis.kernel_ridge import kernel_ridge
from tasks.coreset.synthesis.matching import distribution_matching
from tasks.coreset.synthesis.real import Made, Real, drawn, real_samples
from tasks.data.batches import Samples
from tasks.data.dataset import Card
from tasks.params import Synthesis

Making = Callable[[Real, Made, Any, torch.Generator], Made]


def make(params: Synthesis, method: str, samples: Samples, card: Card, seed: int) -> tuple[Real, Made]:
    """`params.per_class` of each class, begun from random real ones.

    samples: of the training split.

    Raises:
        ValueError: the formation does not divide the image, or a class has no sample.
    """
    sides = card.input_shape[1:] if card.kind == "image" else (1,)
    if any(side % params.formation for side in sides):
        allowed = f"divide {' and '.join(map(str, sides))}" if card.kind == "image" else "be 1 for tables"
        raise ValueError(f"coreset.formation is {params.formation}; it must {allowed}")
    real = real_samples(samples, len(card.classes))
    for name, members in zip(card.classes, real.members, strict=True):
        if not len(members):
            raise ValueError(f"coreset: class '{name}' has no training sample to make others from")
    generator = torch.Generator().manual_seed(seed)
    start = drawn(real, params.per_class, params.formation, generator)
    return real, SYNTHESES[method](real, start, params, generator)


SYNTHESES: Final[Mapping[str, Making]] = {
    "distribution_matching": distribution_matching,
    "kernel_ridge": kernel_ridge,
}
