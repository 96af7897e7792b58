"""Channel pruning: which channels go, step by step, until the target share of the cost is left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy

from torch import Tensor, nn

from tasks.measure.size import macs, parameters
from tasks.params import ChannelPruning
from tasks.prune.allocation import Sensitivity, allocate, ranked, uniform
from tasks.prune.calibration import recalibrate_
from tasks.prune.channels import Group, called, groups, remove_
from tasks.prune.compensation import remove_refitting_
from tasks.prune.criteria import COMPARABLE, CRITERIA
from tasks.prune.evidence import Evidence
from tasks.prune.selection import ignored
from tasks.prune.unstructured import Masks


def scan(model: nn.Module, params: ChannelPruning, evidence: Evidence) -> list[Sensitivity]:
    """Loss and accuracy with one layer pruned at one ratio, for every layer and ratio.

    Raises:
        ValueError: nothing can be cut, an ignored layer does not exist, or the criterion does not suit the model.
    """
    points = []
    for group in _found(model, params, evidence):
        for ratio in params.sensitivity.ratios:
            candidate = deepcopy(model)
            kept = kept_channels(group.channels, ratio, params.round_to)
            remove_(candidate, evidence.input_shape, {group.name: weakest(group, kept)})
            if params.recalibrate and evidence.samples is not None:
                recalibrate_(candidate, evidence.samples)
            points.append(Sensitivity(group.name, ratio, *evidence.score(candidate)))
    return points


def shrink_(
    model: nn.Module,
    params: ChannelPruning,
    evidence: Evidence,
    points: Sequence[Sensitivity],
    baseline: float,
    shares: Sequence[float],
) -> Iterator[Masks]:
    """Cut `model` to each of `shares` of the plan in turn, pausing after each for it to recover.

    points, baseline: the scan and the loss before it; by scope sensitivity they decide which layer gives how much.
    Yields no masks: what is cut is gone.

    Raises:
        ValueError: the target cannot be met.
    """
    found = _found(model, params, evidence)
    full = {group.name: group.channels for group in found}
    ratios = _plan(model, params, evidence, found, points, baseline)
    for share in shares:
        kept = {name: kept_channels(full[name], share * ratio, params.round_to) for name, ratio in ratios.items()}
        cuts = {group.name: weakest(group, kept[group.name]) for group in _found(model, params, evidence)}
        if params.compensate and evidence.samples is not None:
            remove_refitting_(model, evidence.input_shape, cuts, evidence.samples)
        else:
            remove_(model, evidence.input_shape, cuts)
        if params.recalibrate and evidence.samples is not None:
            recalibrate_(model, evidence.samples)
        yield {}


def weakest(group: Group, kept: int) -> list[int]:
    """The channels to cut so that the `kept` with the highest scores stay."""
    order = group.scores.argsort(stable=True)
    return sorted(int(channel) for channel in order[: max(0, group.channels - kept)])


def kept_channels(channels: int, ratio: float, round_to: int) -> int:
    """How many of `channels` stay at a pruning ratio: all where it cuts less than half a channel, else a multiple.

    Of round_to, where there are that many, and at least one such.
    """
    if round(channels * (1 - ratio)) >= channels:
        return channels
    unit = min(round_to, channels)
    return min(channels, max(unit, round(channels * (1 - ratio) / unit) * unit))


def _found(model: nn.Module, params: ChannelPruning, evidence: Evidence) -> list[Group]:
    leave = ignored(model, params.ignore)
    if params.protect.first or params.protect.last:
        layers = called(model, evidence.input_shape)
        leave |= set(layers[:1]) if params.protect.first else set()
        leave |= set(layers[-2:-1]) if params.protect.last else set()
    return groups(
        model,
        evidence.input_shape,
        CRITERIA[params.criterion.method],
        samples=evidence.samples,
        seed=evidence.seed,
        leave=leave,
    )


def _plan(
    model: nn.Module,
    params: ChannelPruning,
    evidence: Evidence,
    found: Sequence[Group],
    points: Sequence[Sensitivity],
    baseline: float,
) -> dict[str, float]:
    """Pruning ratio by layer, with which as much as the target is left."""
    counts = params.target.macs is not None
    share = params.target.macs if counts else params.target.parameters
    assert share is not None  # params have exactly one
    known: dict[tuple[int, ...], float] = {}

    def size(smaller: nn.Module) -> int:
        return macs(smaller, evidence.input_shape) if counts else parameters(smaller)

    dense = size(model)

    def left(ratios: Mapping[str, float]) -> float:
        kept = [kept_channels(group.channels, ratios[group.name], params.round_to) for group in found]
        if tuple(kept) not in known:
            candidate = deepcopy(model)
            cuts = {group.name: weakest(group, count) for group, count in zip(found, kept, strict=True)}
            remove_(candidate, evidence.input_shape, cuts)
            known[tuple(kept)] = size(candidate) / dense
        return known[tuple(kept)]

    if params.scope == "uniform":
        return uniform([group.name for group in found], left, share)
    if params.scope == "global":
        return ranked(_comparable(found, params.criterion.method), left, share)
    return allocate(points, baseline, left, share)


def _comparable(found: Sequence[Group], criterion: str) -> dict[str, Tensor]:
    """Scores by layer; relative to the layer's mean where their size says more of the layer than of the channel."""
    if CRITERIA[criterion] in COMPARABLE:
        return {group.name: group.scores for group in found}
    return {group.name: group.scores / group.scores.mean().clamp_min(1e-12) for group in found}
