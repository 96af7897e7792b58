"""Layers by name."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Final

from torch import nn

from tasks.models.normalised import Normalised

SHOWN: Final = 6


def ignored(model: nn.Module, names: Sequence[str]) -> set[nn.Module]:
    """The modules of these names and all below them, to leave alone.

    Raises:
        ValueError: there is no module of that name.
    """
    found: set[nn.Module] = set()
    for name in names:
        found |= set(model.get_submodule(named(model, name, "prune.ignore")).modules())
    return found


def named(model: nn.Module, name: str, field: str) -> str:
    """The full name of a module that is named as in the user's own model, or as in sensitivity.csv.

    Raises:
        ValueError: there is no module of that name.
    """
    inner, prefix = (model.model, "model.") if isinstance(model, Normalised) else (model, "")
    known = [own for own, _ in inner.named_modules(remove_duplicate=False) if own]
    full = dict(model.named_modules(remove_duplicate=False))
    if name in known:
        return prefix + name
    if name and name in full:
        return name
    close = get_close_matches(name, known, n=3, cutoff=0.4)
    others = f"; near it: {', '.join(map(repr, close))}" if close else f"; it has {listed([*map(repr, known)])}"
    raise ValueError(f"{field}: the model has no layer '{name}'{others if known else ''}")


def listed(names: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
