"""The optimizer of a training, and its learning rate at each step."""

from __future__ import annotations

from collections.abc import Iterable
from math import cos, pi

import torch
from torch import nn

from tasks.params import Train


def make_optimizer(parameters: Iterable[nn.Parameter], train: Train) -> torch.optim.Optimizer:
    """Weight decay on weights only: not on biases, not on BatchNorm's scale and shift."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": train.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if train.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=train.lr, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, lr=train.lr)


def learning_rate(step: int, total: int, train: Train) -> float:
    """Linear up over the first `warmup` of `total` steps, then by the schedule, to zero unless it is constant."""
    peak = train.warmup * total
    rising = (step + 1) / peak if peak else 1.0
    falling = min((total - step) / (total - peak), 1.0)  # above 1 until the peak
    if train.schedule == "cosine":
        falling = (1 - cos(pi * falling)) / 2
    if train.schedule == "constant":
        falling = 1.0
    return train.lr * min(rising, falling)
