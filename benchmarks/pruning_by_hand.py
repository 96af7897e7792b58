"""torch-pruning used by hand: its documented defaults, and a search for the ratio that leaves what is asked for."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any, Final

import torch
import torch_pruning as tp
from torch import Tensor

from tasks.data.batches import Samples
from tasks.measure.size import macs
from tasks.models.normalised import Normalised
from tasks.prune.graph import called
from tasks.training.objective import target_loss

SEARCHES: Final = 8
# the README's example; the others by its documented switch global_pruning
PEERS: Final[dict[str, tuple[Callable[[], Any], bool]]] = {
    "magnitude": (lambda: tp.importance.GroupMagnitudeImportance(p=2), False),
    "magnitude, global": (lambda: tp.importance.GroupMagnitudeImportance(p=2), True),
    "taylor, global": (tp.importance.GroupTaylorImportance, True),
}


def by_hand(
    dense: Normalised, samples: Samples, peer: str, target: float, round_to: int, *, once: bool = False
) -> Normalised:
    """Of the pruning ratios that bisection tries, the one that comes nearest to `target` multiply-accumulates.

    samples: for the gradients that Taylor asks for, taken at every ratio as in its examples; once: at the first alone.
    """
    shape, (importance, everywhere) = samples.shape, PEERS[peer]
    low, high = 0.0, 1.0
    best, distance = deepcopy(dense), float("inf")
    gradients: list[Tensor | None] = []
    for _ in range(SEARCHES):
        ratio = (low + high) / 2
        model = deepcopy(dense).eval()
        if gradients and once:
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter.grad = None if gradient is None else gradient.clone()
        elif "taylor" in peer:
            target_loss(model(samples.inputs(slice(None))), samples.targets(slice(None))).backward()
            gradients = [None if own.grad is None else own.grad.clone() for own in model.parameters()]
        tp.pruner.BasePruner(
            model,
            torch.zeros(2, *shape),
            importance=importance(),
            pruning_ratio=ratio,
            global_pruning=everywhere,
            ignored_layers=called(model, shape)[-1:],
            round_to=round_to,
        ).step()
        model.zero_grad()
        left = macs(model, shape)
        if abs(left - target) < distance:
            best, distance = model, abs(left - target)
        low, high = (ratio, high) if left > target else (low, ratio)
    return best
