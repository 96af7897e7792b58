"""Channel pruning: which channels go, step by step, until the target share of the MACs is left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy

from torch import nn

from tasks.measure.size import macs
from tasks.params import ChannelPruning
from tasks.prune.allocation import Score, Sensitivity, allocate
from tasks.prune.channels import Group, groups, remove_
from tasks.prune.criteria import CRITERIA
from tasks.prune.unstructured import Masks


def scan(model: nn.Module, params: ChannelPruning, input_shape: Sequence[int], score: Score) -> list[Sensitivity]:
    """Loss and accuracy with one layer pruned at one ratio, for every layer and ratio."""
    points = []
    for group in groups(model, input_shape, CRITERIA[params.criterion.method]):
        for ratio in params.sensitivity.ratios:
            candidate = deepcopy(model)
            kept = kept_channels(group.channels, ratio, params.round_to)
            remove_(candidate, input_shape, {group.name: weakest(group, kept)})
            points.append(Sensitivity(group.name, ratio, *score(candidate)))
    return points


def shrink_(
    model: nn.Module,
    params: ChannelPruning,
    input_shape: Sequence[int],
    points: Sequence[Sensitivity],
    baseline: float,
    shares: Sequence[float],
) -> Iterator[Masks]:
    """Cut `model` to each of `shares` of the plan in turn, pausing after each for it to recover.

    points, baseline: the scan and the loss before it; they decide which layer gives how much.
    Yields no masks: what is cut is gone.
    """
    full = {group.name: group.channels for group in groups(model, input_shape, CRITERIA[params.criterion.method])}
    dense, pristine = macs(model, input_shape), deepcopy(model)

    def left(ratios: Mapping[str, float]) -> float:
        candidate = deepcopy(pristine)
        cut_(candidate, ratios, 1.0)
        return macs(candidate, input_shape) / dense

    def cut_(smaller: nn.Module, ratios: Mapping[str, float], share: float) -> None:
        found = groups(smaller, input_shape, CRITERIA[params.criterion.method])
        kept = {name: kept_channels(full[name], share * ratio, params.round_to) for name, ratio in ratios.items()}
        remove_(smaller, input_shape, {group.name: weakest(group, kept[group.name]) for group in found})

    ratios = allocate(points, baseline, left, params.target.macs)
    for share in shares:
        cut_(model, ratios, share)
        yield {}


def weakest(group: Group, kept: int) -> list[int]:
    """The channels to cut so that the `kept` with the highest scores stay."""
    order = group.scores.argsort(stable=True)
    return sorted(int(channel) for channel in order[: max(0, group.channels - kept)])


def kept_channels(channels: int, ratio: float, round_to: int) -> int:
    """How many of `channels` stay at a pruning ratio, a multiple of round_to where there are that many."""
    unit = min(round_to, channels)
    return min(channels, max(unit, round(channels * (1 - ratio) / unit) * unit))
