"""A multi-layer perceptron."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod

from torch import Tensor, nn


def dense_blocks(sizes: Sequence[int]) -> list[nn.Module]:
    """Linear without bias, BatchNorm, ReLU from each size to the next."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU()]
    return layers


class MLP(nn.Module):
    """Linear, BatchNorm, ReLU per hidden layer, then a linear layer; inputs of any shape are flattened."""

    def __init__(self, in_shape: Sequence[int], classes: int, hidden: Sequence[int] = (128, 128)) -> None:
        super().__init__()
        sizes = [prod(in_shape), *hidden]
        self.body = nn.Sequential(nn.Flatten(), *dense_blocks(sizes))
        self.head = nn.Linear(sizes[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, *in_shape) -> logits (batch, classes)."""
        logits: Tensor = self.head(self.body(x))
        return logits
