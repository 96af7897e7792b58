"""A network of depthwise separable convolutions: few parameters and few operations for its width."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from tasks.models.cnn import check_blocks, conv_block, image_channels, pool_and_head


def separable_block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """A 3 x 3 convolution of each channel alone, then a 1 x 1 convolution that mixes them, each as in `conv_block`."""
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False),
        nn.BatchNorm2d(inputs),
        nn.ReLU(),
        *conv_block(inputs, outputs, kernel=1),
    )


class DepthwiseCNN(nn.Module):
    """A plain convolution block for the first entry of `channels`, a separable one for each further; pool; linear.

    channels, strides: of each block, in step. hidden: as of CNN.
    In the manner of MobileNet (Howard et al. 2017, arXiv:1704.04861).
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        classes: int,
        channels: Sequence[int] = (16, 32, 64),
        strides: Sequence[int] = (2, 2, 2),
        hidden: Sequence[int] = (),
    ) -> None:
        super().__init__()
        inputs = image_channels("DepthwiseCNN", in_shape)
        check_blocks("DepthwiseCNN", channels, strides)
        if not channels:
            raise ValueError("DepthwiseCNN: channels is empty; give at least the stem's")
        sizes = zip(channels, channels[1:], strides[1:], strict=False)
        self.body = nn.Sequential(
            conv_block(inputs, channels[0], strides[0]),
            *(separable_block(before, after, stride) for before, after, stride in sizes),
        )
        self.pool, self.head = pool_and_head(channels[-1], in_shape, strides, 3, hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, *in_shape) -> logits (batch, classes)."""
        logits: Tensor = self.head(self.pool(self.body(x)).flatten(1))
        return logits
