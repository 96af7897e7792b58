"""BatchNorm statistics made anew, as they no longer fit a model that was cut."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from tasks.data.batches import Samples, in_order

BATCH = 128


@torch.no_grad()
def recalibrate_(model: nn.Module, samples: Samples) -> None:
    """Set every BatchNorm's running statistics to the plain average over batches of `samples`.

    Everything else runs as in evaluation: a Dropout would make them depend on chance.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    # one sample has no variance
    if not norms or len(samples) < 2:
        return
    training, momenta = model.training, [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative average
        norm.train()
    for inputs, _ in in_order(samples, min(BATCH, len(samples))):
        if len(inputs) >= min(BATCH, len(samples)):  # an incomplete batch would count as much as a whole one
            model(inputs)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.train(training)
