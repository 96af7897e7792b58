"""A plain convolutional network: few, fat layers, which is what runs fastest at batch 1."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


def conv_block(inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    """Convolution without bias, BatchNorm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


def image_channels(network: str, in_shape: Sequence[int]) -> int:
    """Of the images that `network` is built for.

    Raises:
        ValueError: the data are no images.
    """
    if len(in_shape) != 3:
        raise ValueError(f"{network}: needs images of (channels, height, width), the data has {tuple(in_shape)}")
    return in_shape[0]


def check_blocks(network: str, channels: Sequence[int], strides: Sequence[int]) -> None:
    """Raise ValueError unless each block of `network` has its channels and its stride."""
    if len(channels) != len(strides):
        raise ValueError(f"{network}: channels has {len(channels)} entries, strides {len(strides)}; give one each")


class CNN(nn.Module):
    """One convolution block per entry of `channels` with the stride beside it, global pooling, a linear layer."""

    def __init__(
        self,
        in_shape: Sequence[int],
        classes: int,
        channels: Sequence[int] = (16, 32, 64),
        strides: Sequence[int] = (2, 2, 2),
        kernel: int = 3,
    ) -> None:
        super().__init__()
        widths = [image_channels("CNN", in_shape), *channels]
        check_blocks("CNN", channels, strides)
        sizes = zip(widths, channels, strides, strict=False)
        self.body = nn.Sequential(*(conv_block(inputs, outputs, stride, kernel) for inputs, outputs, stride in sizes))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, *in_shape) -> logits (batch, classes)."""
        logits: Tensor = self.head(self.pool(self.body(x)).flatten(1))
        return logits
