"""Distribution matching: made samples whose features have the class means of the real ones, in any random network."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from tasks.coreset.synthesis.labels import with_solved_labels
from tasks.coreset.synthesis.networks import fresh
from tasks.coreset.synthesis.optimise import steps_of
from tasks.coreset.synthesis.real import Made, Real
from tasks.coreset.synthesis.siamese import draw_change
from tasks.params import DistributionMatching


def mean_distance(real: Tensor, made: Tensor) -> Tensor:
    """Squared distance between the means of each class, summed over the classes.

    Args:
        real: (classes, samples, features).
        made: (classes, own samples, features).

    Zhao & Bilen 2023, arXiv:2110.04181, eq. 4.
    """
    return (real.mean(1) - made.mean(1)).square().sum()


def distribution_matching(real: Real, start: Made, params: DistributionMatching, generator: torch.Generator) -> Made:
    """A fresh network and one siamese change per step; soft labels are solved in the end, for the images as made."""
    images = start.images.clone().requires_grad_()
    made = Made(images, start.labels, start.formation)
    for step in steps_of([images], params):
        network = fresh(images.shape[1:], real.classes, params.width, generator)
        change = draw_change(1, params.augment, generator)
        batch = real.of_each(max(params.batch_size // real.classes, 1), generator)
        with torch.no_grad():
            wanted = network.body(change(batch))
        found = network.body(change(made.inputs()))
        step(mean_distance(*(features.unflatten(0, (real.classes, -1)) for features in (wanted, found))))
        real.keep_within_(images)
    result = replace(start, images=images.detach())
    if params.labels == "hard":
        return result
    return with_solved_labels(real, result, params, generator)
