"""Soft labels for images that stay as they are, in closed form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor

from tasks.coreset.synthesis.networks import fresh
from tasks.coreset.synthesis.real import Made, Real
from tasks.coreset.synthesis.ridge import as_probabilities, response, solved_labels
from tasks.coreset.synthesis.siamese import draw_change
from tasks.params import Synthesis

NETWORKS: Final = 50
RIDGE: Final = 1e-3  # a label that no network answers to stays near equal shares


def with_solved_labels(real: Real, made: Made, params: Synthesis, generator: torch.Generator) -> Made:
    """The labels by which kernel ridge regression answers best: NETWORKS random networks, a real batch for each."""

    def parts() -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(NETWORKS):
            network = fresh(real.shape, real.classes, params.width, generator)
            change = draw_change(1, params.augment, generator)
            batch, targets = real.batch(params.batch_size, generator)
            yield response(network.body(change(made.inputs())), network.body(change(batch)), RIDGE), targets

    with torch.no_grad():
        labels = as_probabilities(solved_labels(parts(), RIDGE)).float()
    return replace(made, labels=labels)
