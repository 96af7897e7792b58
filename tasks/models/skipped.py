"""What stands where a block was removed."""

from __future__ import annotations

from types import SimpleNamespace

from torch import Tensor, nn


class Skipped(nn.Module):
    """Passes its first argument on, whatever else the block took.

    batch_first: of a transformer layer that stood here; nn.TransformerEncoder asks its first layer for it.
    """

    def __init__(self, batch_first: bool = False) -> None:
        super().__init__()
        self.self_attn = SimpleNamespace(batch_first=batch_first)

    def forward(self, x: Tensor, *_: object, **__: object) -> Tensor:
        """Any shape, kept."""
        return x


def skip_(model: nn.Module, name: str) -> None:
    """Remove the module of this name, under every other name that it has too."""
    module = model.get_submodule(name)
    replacement = Skipped(bool(getattr(getattr(module, "self_attn", None), "batch_first", False)))
    for alias in [alias for alias, own in model.named_modules(remove_duplicate=False) if own is module]:
        model.set_submodule(alias, replacement)
    for encoder in model.modules():
        if isinstance(encoder, nn.TransformerEncoder):
            encoder.use_nested_tensor = False  # for which it asks its first layer for weights
