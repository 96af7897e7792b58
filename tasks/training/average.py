"""Exponential moving average of a network's weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Average:
    """Of all floating-point state, BatchNorm's statistics included. Early on its memory is as short as the training.

    buffers: those of the means that no optimizer trains, as BatchNorm's statistics.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.live = {name: t for name, t in model.state_dict(keep_vars=True).items() if t.is_floating_point()}
        self.mean = {name: t.detach().clone() for name, t in self.live.items()}
        self.buffers = [self.mean[name] for name, _ in model.named_buffers(remove_duplicate=False) if name in self.mean]
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights as they are now."""
        self.updates += 1
        # as in a mean of the first few, so that a short training does not end near its initial weights
        decay = min(self.decay, self.updates / (self.updates + 9))
        for name, live in self.live.items():
            self.mean[name].lerp_(live, 1 - decay)

    @torch.no_grad()
    def swap_(self) -> None:
        """Exchange the mean with the model's weights."""
        for name, live in self.live.items():
            held = live.detach().clone()
            live.copy_(self.mean[name])
            self.mean[name].copy_(held)

    @torch.no_grad()
    def restore_(self, mean: Mapping[str, Tensor], updates: int) -> None:
        """Go on from what another average had reached."""
        self.updates = updates
        for name, tensor in mean.items():
            self.mean[name].copy_(tensor)
