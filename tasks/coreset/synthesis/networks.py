"""The small networks by whose features real and made samples are compared. No BatchNorm: the sets are too small."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Final

import torch
from torch import Tensor, nn

from tasks.device import device

BLOCKS: Final = 3
SMALLEST: Final = 7  # pixels of a side that is still halved


class FeatureNet(nn.Module):
    """`body` maps (batch, *shape) to (batch, features); `head` maps those to logits."""

    def __init__(self, body: nn.Sequential, features: int, classes: int) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, *shape) -> logits (batch, classes)."""
        logits: Tensor = self.head(self.body(x))
        return logits


def conv_net(in_shape: Sequence[int], classes: int, width: int = 128) -> FeatureNet:
    """ConvNet-3 of the dataset distillation papers: BLOCKS times convolution, instance norm, ReLU, average pooling.

    Pooling ends where a side is below SMALLEST. Gidaris & Komodakis 2018, arXiv:1804.09458.
    """
    channels, height, width_left = in_shape
    layers: list[nn.Module] = []
    for block in range(BLOCKS):
        # a group per channel is instance norm
        layers += [nn.Conv2d(width if block else channels, width, 3, padding=1), nn.GroupNorm(width, width), nn.ReLU()]
        if min(height, width_left) >= SMALLEST:
            layers.append(nn.AvgPool2d(2))
            height, width_left = height // 2, width_left // 2
    return FeatureNet(nn.Sequential(*layers, nn.Flatten()), width * height * width_left, classes)


def perceptron(in_shape: Sequence[int], classes: int, width: int = 128) -> FeatureNet:
    """For tables: two hidden layers with layer norm."""
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs in (prod(in_shape), width):
        layers += [nn.Linear(inputs, width), nn.LayerNorm(width), nn.ReLU()]
    return FeatureNet(nn.Sequential(*layers), width, classes)


def fresh(in_shape: Sequence[int], classes: int, width: int, generator: torch.Generator) -> FeatureNet:
    """A random one on the device, drawn by `generator`: a ConvNet-3 for images, a perceptron for tables."""
    build = conv_net if len(in_shape) == 3 else perceptron
    with torch.random.fork_rng():
        torch.manual_seed(int(torch.randint(0, 2**62, (1,), generator=generator)))
        return build(in_shape, classes, width).to(device())
