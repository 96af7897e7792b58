"""target: budget: ever smaller models, each from the one before, until the budget is used up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy

from torch import nn

from tasks.prune.allocation import Unreachable
from tasks.prune.diary import Entry

Cut = Callable[[nn.Module, float], None]
Recover = Callable[[nn.Module, str, float], Entry]


def climb(
    model: nn.Module, shares: Sequence[float], operations: Callable[[nn.Module], int], cut_: Cut, recover_: Recover
) -> tuple[nn.Module, list[Entry]]:
    """The smallest model inside the budget, and an entry per rung; `model` itself stays as it is.

    shares: of the multiply-accumulates, falling. cut_: to a share of what the model has now.
    The first rung outside the budget is the last, as is one that no cut reaches; where not one is inside, `model` is
    what is left.
    """
    best, dense, entries = model, operations(model), list[Entry]()
    for share in shares:
        step = share * dense / operations(best)
        if step >= 1:  # whole channels and blocks go further than asked
            continue
        candidate = deepcopy(best)
        try:
            cut_(candidate, step)
        except Unreachable:
            break
        entries.append(recover_(candidate, f"rung {len(entries) + 1}", share))
        if not entries[-1].inside:
            break
        best = candidate
    return best, entries
