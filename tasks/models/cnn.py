"""A plain convolutional network: few, fat layers, which is what runs fastest at batch 1."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from tasks.models.mlp import dense_blocks


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


def pool_and_head(
    channels: int, in_shape: Sequence[int], strides: Sequence[int], kernel: int, hidden: Sequence[int], classes: int
) -> tuple[nn.Module, nn.Module]:
    """What follows the blocks: global pooling and a linear layer, or dense blocks on all of the feature maps.

    in_shape: of the image. strides, kernel: of the blocks, by which its size shrinks.
    """
    if not hidden:
        return nn.AdaptiveAvgPool2d(1), nn.Linear(channels, classes)
    height, width = in_shape[1:]
    for stride in strides:
        height, width = ((size + 2 * (kernel // 2) - kernel) // stride + 1 for size in (height, width))
    blocks = dense_blocks([channels * height * width, *hidden])
    return nn.Identity(), nn.Sequential(*blocks, nn.Linear(hidden[-1], classes))


class CNN(nn.Module):
    """One convolution block per entry of `channels` with the stride beside it, global pooling, a linear layer.

    hidden: units of dense blocks on the flattened feature maps, in place of the pooling: many parameters, few MACs.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        classes: int,
        channels: Sequence[int] = (16, 32, 64),
        strides: Sequence[int] = (2, 2, 2),
        kernel: int = 3,
        hidden: Sequence[int] = (),
    ) -> None:
        super().__init__()
        widths = [image_channels("CNN", in_shape), *channels]
        check_blocks("CNN", channels, strides)
        sizes = zip(widths, channels, strides, strict=False)
        self.body = nn.Sequential(*(conv_block(inputs, outputs, stride, kernel) for inputs, outputs, stride in sizes))
        self.pool, self.head = pool_and_head(widths[-1], in_shape, strides, kernel, hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, *in_shape) -> logits (batch, classes)."""
        logits: Tensor = self.head(self.pool(self.body(x)).flatten(1))
        return logits
