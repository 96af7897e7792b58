"""What stands where a block was removed."""

from __future__ import annotations

from torch import Tensor, nn


class Skipped(nn.Module):
    """Passes its first argument on, whatever else the block took."""

    def forward(self, x: Tensor, *_: object, **__: object) -> Tensor:
        """Any shape, kept."""
        return x


def skip_(model: nn.Module, name: str) -> None:
    """Remove the module of this name, under every other name that it has too."""
    module = model.get_submodule(name)
    replacement = Skipped()
    for alias in [alias for alias, own in model.named_modules(remove_duplicate=False) if own is module]:
        model.set_submodule(alias, replacement)
