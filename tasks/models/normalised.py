"""The wrapper every model wears: raw inputs in, logits out, and the recipe by which it was built."""

from __future__ import annotations

from torch import Tensor, nn

from tasks.params import Factory


class Normalised(nn.Module):
    """(x - mean) * inverse_std, then the model; both are buffers, so the exported file takes raw values.

    mean, inverse_std: (channels, 1, 1) for images, (features,) for tables.
    factory: what built `model`, with every argument resolved.
    """

    mean: Tensor
    inverse_std: Tensor

    def __init__(self, model: nn.Module, mean: Tensor, inverse_std: Tensor, factory: Factory) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("inverse_std", inverse_std)
        self.model = model
        self.factory = factory

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, *input_shape), raw -> logits (batch, classes)."""
        logits: Tensor = self.model((x - self.mean) * self.inverse_std)
        return logits
