"""scope: auto: every way to spread a cut over the layers is tried, and the best one on validation data is taken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from torch import nn

from tasks.prune.allocation import Unreachable

SCOPES: Final = ("sensitivity", "uniform", "global", "isomorphic")
Cut = Callable[[str], nn.Module]
Recover = Callable[[nn.Module, str], float]


def best_scope(cut: Cut, recover_: Recover) -> str:
    """The scope whose cut is most accurate once it has recovered; of equals the first.

    How a cut does before any training says little of how it will learn, and neither does its loss, which is that of
    another objective than recovery's.
    cut: the model cut by a scope. recover_: trains that for a while and says its accuracy on validation data.

    Raises:
        Unreachable: by no scope can the target be met; it is that of the scope that leaves least.
    """
    accuracies: dict[str, float] = {}
    failures: list[Unreachable] = []
    for scope in SCOPES:
        try:
            candidate = cut(scope)
        except Unreachable as error:
            failures.append(error)
            continue
        accuracies[scope] = recover_(candidate, scope)
    if not accuracies:
        raise min(failures, key=lambda failure: failure.left)
    return max(accuracies, key=accuracies.__getitem__)
