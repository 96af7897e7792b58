"""Images and labels from which kernel ridge regression answers best, on the features of random or growing networks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from tasks.coreset.synthesis.labels import with_solved_labels
from tasks.coreset.synthesis.networks import FeatureNet, fresh
from tasks.coreset.synthesis.optimise import steps_of
from tasks.coreset.synthesis.real import Made, Real
from tasks.coreset.synthesis.ridge import ridge_loss
from tasks.coreset.synthesis.siamese import draw_change
from tasks.params import KernelRidge

SURE: Final = 0.9  # of the own class, where labels begin
NETWORK_LR: Final = 1e-3


def kernel_ridge(real: Real, start: Made, params: KernelRidge, generator: torch.Generator) -> Made:
    """By `params.variant`: images and labels down the loss of the regression, or the labels alone in closed form."""
    if params.variant == "label_solve":
        return with_solved_labels(real, start, params, generator)
    images = start.images.clone().requires_grad_()
    logits = _logits(start.labels).requires_grad_()
    learned = [images, logits] if params.labels == "soft" else [images]
    pool = [_grown(real, params, generator) for _ in range(params.pool)] if params.variant == "frepo" else []
    for step in steps_of(learned, params):
        place = int(torch.randint(params.pool, (1,), generator=generator))
        network = pool[place].network if pool else fresh(real.shape, real.classes, params.width, generator)
        labels = logits.softmax(1) if params.labels == "soft" else start.labels
        change = draw_change(1, params.augment, generator)
        batch, targets = real.batch(params.batch_size, generator)
        with torch.no_grad():
            queries = network.body(change(batch))
        made = Made(images, labels, start.formation)
        step(ridge_loss(network.body(change(made.inputs())), labels, queries, targets, params.ridge))
        real.keep_within_(images)
        if pool:
            pool[place] = _older(pool[place], made, real, params, generator)
    labels = logits.detach().softmax(1) if params.labels == "soft" else start.labels
    return Made(images.detach(), labels, start.formation)


@dataclass(frozen=True)
class _Grown:
    """A network of the pool, so many steps old."""

    network: FeatureNet
    optimizer: torch.optim.Optimizer
    age: int = 0


def _grown(real: Real, params: KernelRidge, generator: torch.Generator) -> _Grown:
    network = fresh(real.shape, real.classes, params.width, generator)
    return _Grown(network, torch.optim.Adam(network.parameters(), lr=NETWORK_LR))


def _older(grown: _Grown, made: Made, real: Real, params: KernelRidge, generator: torch.Generator) -> _Grown:
    """One step of training on the made samples; a fresh one at the end of its life.

    Zhou et al. 2022, arXiv:2206.00719, algorithm 1.
    """
    if grown.age >= params.age:
        return _grown(real, params, generator)
    with torch.no_grad():
        inputs, labels = made.inputs(), made.labels
        inputs = draw_change(len(inputs), params.augment, generator)(inputs)
    loss = F.cross_entropy(grown.network(inputs), labels.detach())
    grown.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    grown.optimizer.step()
    return replace(grown, age=grown.age + 1)


def _logits(labels: Tensor) -> Tensor:
    """Of probabilities a little less sure than these one-hot ones, so that they can be learned."""
    rest = (1 - SURE) / (labels.shape[1] - 1)
    return (labels * (SURE - rest) + rest).log()
