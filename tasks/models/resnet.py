"""A small residual network in the manner of ResNet-9."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from tasks.models.cnn import conv_block, image_channels


class Residual(nn.Module):
    """x + two convolution blocks of the same width."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_block(channels, channels), conv_block(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width), shape kept."""
        result: Tensor = x + self.body(x)
        return result


class ResNet(nn.Module):
    """A stem, then per further width a convolution that halves the image and a residual pair; max pool; linear.

    widths: channels of the stem and of each stage. residual: whether stages have their residual pair.
    """

    def __init__(
        self, in_shape: Sequence[int], classes: int, widths: Sequence[int] = (16, 32, 64, 128), residual: bool = True
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv_block(image_channels("ResNet", in_shape), widths[0])]
        for stage, (inputs, outputs) in enumerate(pairwise(widths)):
            # the first halving is the convolution's stride: pooling the full-size image would cost most of the time
            layers += (
                [conv_block(inputs, outputs, stride=2)]
                if stage == 0
                else [conv_block(inputs, outputs), nn.MaxPool2d(2)]
            )
            layers += [Residual(outputs)] if residual else []
        self.body = nn.Sequential(*layers)
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, *in_shape) -> logits (batch, classes)."""
        # a max over the image is large: without the factor the first steps at a high learning rate diverge
        logits: Tensor = self.head(self.pool(self.body(x)).flatten(1)) * 0.125
        return logits
