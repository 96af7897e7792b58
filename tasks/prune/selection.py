"""Layers by name: those to leave alone."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from torch import nn

from tasks.models.normalised import Normalised


def ignored(model: nn.Module, names: Sequence[str]) -> set[nn.Module]:
    """The modules of these names and all below them; names as in the user's own module, or as in sensitivity.csv.

    Raises:
        ValueError: there is no module of that name.
    """
    inner = model.model if isinstance(model, Normalised) else model
    known = {name: module for name, module in inner.named_modules(remove_duplicate=False) if name}
    full = dict(model.named_modules(remove_duplicate=False))
    found: set[nn.Module] = set()
    for name in names:
        module = known.get(name, full.get(name) if name else None)
        if module is None:
            close = get_close_matches(name, known, n=3, cutoff=0.4) or list(known)[:8]
            raise ValueError(
                f"prune.ignore: the model has no layer '{name}'"
                + (f"; near it: {', '.join(map(repr, close))}" if close else "")
            )
        found |= set(module.modules())
    return found
