"""target: budget: ever smaller models, each from the one before, until the budget is used up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy

from torch import nn

from tasks.params import ChannelPruning, Prune, UnstructuredPruning
from tasks.params.prune import CostTarget, HeadPruning, LayerPruning, NmPruning, SparsityTarget
from tasks.prune.allocation import NothingToCut, Unreachable
from tasks.prune.diary import Entry

Cut = Callable[[nn.Module, float], None]
Recover = Callable[[nn.Module, str, float], Entry]


def climb(
    model: nn.Module, shares: Sequence[float], size: Callable[[nn.Module], int], cut_: Cut, recover_: Recover
) -> tuple[nn.Module, list[Entry]]:
    """The smallest model inside the budget, and an entry per rung; `model` itself stays as it is.

    shares: of the size that it has, falling. cut_: down to such a share.
    The first rung outside the budget is the last, as is one that no cut reaches or for which nothing is left to cut;
    where not one is inside, `model` is what is left.
    """
    best, dense, entries = model, size(model), list[Entry]()
    for share in shares:
        if share * dense >= size(best):  # whole channels and blocks go further than asked
            continue
        candidate = deepcopy(best)
        try:
            cut_(candidate, share)
        except (NothingToCut, Unreachable):
            break
        entries.append(recover_(candidate, f"rung {len(entries) + 1}", share))
        if not entries[-1].inside:
            break
        best = candidate
    return best, entries


def rungs(params: Prune) -> Sequence[float]:
    """The shares to try: of N:M, all between its m and its n."""
    if isinstance(params, NmPruning):
        return [n / params.m for n in range(params.m - 1, params.n - 1, -1)]
    return params.ladder.shares


def rung(params: Prune, share: float, left: float) -> Prune:
    """The params by which to cut down to `share` of the dense model, of which `left` is there still."""
    if isinstance(params, NmPruning):
        return params.model_copy(update={"target": None, "n": round(share * params.m)})
    if isinstance(params, UnstructuredPruning):
        return params.model_copy(update={"target": SparsityTarget(sparsity=1 - share)})
    assert isinstance(params, ChannelPruning | HeadPruning | LayerPruning)
    return params.model_copy(update={"target": CostTarget(macs=share / left)})
