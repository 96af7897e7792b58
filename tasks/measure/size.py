"""What a model costs on paper: multiply-accumulates and parameters."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def macs(model: nn.Module, input_shape: Sequence[int]) -> int:
    """Multiply-accumulates of convolutions and matrix products for one sample."""
    counter = FlopCounterMode(display=False)
    training = model.training
    with counter, torch.no_grad():
        model.eval()(torch.zeros(1, *input_shape))
    model.train(training)
    return int(counter.get_total_flops()) // 2


def parameters(model: nn.Module) -> int:
    """Number of trainable values, zeros included."""
    return sum(parameter.numel() for parameter in model.parameters())


def nonzero(model: nn.Module) -> int:
    """Number of trainable values that are not zero."""
    return sum(int(parameter.count_nonzero()) for parameter in model.parameters())
