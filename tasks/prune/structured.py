"""Channels or heads: which go, step by step, until the target share of the cost is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Final

from torch import Tensor, nn

from tasks.params.prune import ChannelPruning, HeadPruning
from tasks.prune import channels, heads
from tasks.prune.allocation import Cost, Sensitivity, allocate, measured, ranked, uniform
from tasks.prune.calibration import recalibrate_
from tasks.prune.channels import Group
from tasks.prune.compensation import remove_refitting_
from tasks.prune.cost import COUNTED, share_left
from tasks.prune.criteria import COMPARABLE, CRITERIA
from tasks.prune.evidence import Evidence
from tasks.prune.matrices import Masks
from tasks.prune.selection import ignored, listed
from tasks.prune.sizes import Footprint

Structured = ChannelPruning | HeadPruning


@dataclass(frozen=True)
class Surgery:
    """How the units of a pattern are found and scored, what keeps others whole, and how they are cut out.

    in_turn: the layers that have units, in the order in which they run.
    """

    groups: Callable[..., list[Group]]
    obstacles: Callable[..., dict[str, str]]
    remove_: Callable[[nn.Module, Sequence[int], Mapping[str, Sequence[int]]], None]
    in_turn: Callable[[nn.Module, Sequence[int]], list[nn.Module]]


def scan(model: nn.Module, params: Structured, evidence: Evidence) -> list[Sensitivity]:
    """Loss and accuracy with one layer pruned at one ratio, for every layer and ratio.

    Raises:
        ValueError: nothing can be cut, an ignored layer does not exist, or the criterion does not suit the model.
    """
    points = []
    for group in _found(model, params, evidence):
        for ratio in params.sensitivity.ratios:
            candidate = deepcopy(model)
            kept = kept_channels(group.channels, ratio, _unit(params))
            SURGERY[params.pattern].remove_(candidate, evidence.input_shape, {group.name: weakest(group, kept)})
            if params.recalibrate and evidence.samples is not None:
                recalibrate_(candidate, evidence.samples)
            points.append(Sensitivity(group.name, ratio, *evidence.score(candidate)))
    return points


def shrink_(
    model: nn.Module,
    params: Structured,
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
    for step, share in enumerate(shares):
        kept = {name: kept_channels(full[name], share * ratio, _unit(params)) for name, ratio in ratios.items()}
        now = _found(model, params, evidence) if step else found
        cuts = {group.name: weakest(group, kept[group.name]) for group in now}
        if isinstance(params, ChannelPruning) and params.compensate and evidence.samples is not None:
            remove_refitting_(model, evidence.input_shape, cuts, evidence.samples)
        else:
            SURGERY[params.pattern].remove_(model, evidence.input_shape, cuts)
        if params.recalibrate and evidence.samples is not None:
            recalibrate_(model, evidence.samples)
        yield {}


def notes(model: nn.Module, params: Structured, evidence: Evidence) -> list[str]:
    """What is left whole though nobody asked for it, and why.

    Raises:
        ValueError: an ignored layer does not exist, or the architecture cannot be traced.
    """
    left = SURGERY[params.pattern].obstacles(model, evidence.input_shape, _whole(model, params, evidence))
    by_reason: dict[str, list[str]] = {}
    for name, reason in left.items():
        by_reason.setdefault(reason, []).append(name)
    texts = [f"{listed(own)} because of {reason}" for reason, own in by_reason.items()]
    return [f"left whole: {'; '.join(texts)}"] if texts else []


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


def filled(
    ratios: Mapping[str, float], found: Sequence[Group], unit: int, cost: Cost, target: float
) -> dict[str, float]:
    """Ratios that give back what rounding to multiples of `unit` took beyond the target, one multiple at a time.

    To the layer that is then least above its plan, as a share of its channels, of those with which `target` is kept.
    """
    full = {group.name: group.channels for group in found}
    filled = {name: 1 - kept_channels(full[name], ratio, unit) / full[name] for name, ratio in ratios.items()}
    while True:
        raised = {name: max(0.0, ratio - unit / full[name]) for name, ratio in filled.items() if ratio > 0}
        for name in sorted(raised, key=lambda name: ratios[name] - raised[name]):
            if cost({**filled, name: raised[name]}) <= target:
                filled[name] = raised[name]
                break
        else:
            return filled


def _whole(model: nn.Module, params: Structured, evidence: Evidence) -> set[nn.Module]:
    """The modules to leave alone."""
    leave = ignored(model, params.ignore)
    if params.protect.first or params.protect.last:
        ends = SURGERY[params.pattern].in_turn(model, evidence.input_shape)
        leave |= set(ends[:1]) if params.protect.first else set()
        leave |= set(ends[-1:]) if params.protect.last else set()
    return leave


def _found(model: nn.Module, params: Structured, evidence: Evidence) -> list[Group]:
    return SURGERY[params.pattern].groups(
        model,
        evidence.input_shape,
        CRITERIA[params.criterion.method],
        samples=evidence.samples,
        seed=evidence.seed,
        leave=_whole(model, params, evidence),
    )


def _plan(
    model: nn.Module,
    params: Structured,
    evidence: Evidence,
    found: Sequence[Group],
    points: Sequence[Sensitivity],
    baseline: float,
) -> dict[str, float]:
    """Pruning ratio by layer, with which as much as the target is left."""
    assert not isinstance(params.target, str)  # each rung of the ladder has a target of its own
    measure, share = params.target.measure

    def planned(cost: Cost, share: float) -> dict[str, float]:
        if params.scope == "uniform":
            return uniform([group.name for group in found], cost, share)
        if params.scope == "global":
            return ranked(_comparable(found, params.criterion.method), {group.name: "" for group in found}, cost, share)
        if params.scope == "isomorphic":
            return ranked(
                {group.name: group.scores for group in found}, {group.name: group.kind for group in found}, cost, share
            )
        return allocate(points, baseline, cost, share)

    foretold = _foretold(model, params, evidence, found, measure)
    if measure in COUNTED:
        ratios = planned(foretold, share)
        # of single channels none is left over but where another would be above a higher score
        return filled(ratios, found, _unit(params), foretold, share) if _unit(params) > 1 else ratios
    largest = max(params.sensitivity.ratios) if params.scope == "sensitivity" else 1.0
    least = foretold({group.name: largest for group in found})
    return measured(lambda less: planned(foretold, less), least, _built(model, params, evidence, found, measure), share)


def _foretold(model: nn.Module, params: Structured, evidence: Evidence, found: Sequence[Group], measure: str) -> Cost:
    """What is left at given ratios, without a smaller model where that can be said: of latency by the table."""
    if not isinstance(params, ChannelPruning):
        return _built(model, params, evidence, found, measure if measure in COUNTED else "macs")
    footprint = Footprint.of(model, evidence.input_shape, found)
    by_measure: dict[str, Callable[[Sequence[int]], float]] = {
        "macs": footprint.macs,
        "parameters": footprint.parameters,
        "bytes": footprint.parameters,
    }
    if measure == "latency":
        if evidence.operations is None:
            raise ValueError("prune.target: latency needs the table of operations")
        table = evidence.operations
        by_measure["latency"] = lambda kept: table.latency_ms(footprint.sizes(kept))
    cost = by_measure[measure]
    whole, unit = cost([group.channels for group in found]), _unit(params)

    def left(ratios: Mapping[str, float]) -> float:
        return cost([kept_channels(group.channels, ratios[group.name], unit) for group in found]) / whole

    return left


def _built(model: nn.Module, params: Structured, evidence: Evidence, found: Sequence[Group], measure: str) -> Cost:
    """What is left at given ratios; each size is built and measured once."""
    known: dict[tuple[int, ...], float] = {}
    cost, unit = share_left(measure, model, evidence), _unit(params)

    def left(ratios: Mapping[str, float]) -> float:
        kept = tuple(kept_channels(group.channels, ratios[group.name], unit) for group in found)
        if kept not in known:
            candidate = deepcopy(model)
            cuts = {group.name: weakest(group, count) for group, count in zip(found, kept, strict=True)}
            SURGERY[params.pattern].remove_(candidate, evidence.input_shape, cuts)
            known[kept] = cost(candidate)
        return known[kept]

    return left


def _unit(params: Structured) -> int:
    return params.round_to if isinstance(params, ChannelPruning) else 1


def _comparable(found: Sequence[Group], criterion: str) -> dict[str, Tensor]:
    """Scores by layer, relative to the layer's mean unless they compete as they are."""
    if CRITERIA[criterion] in COMPARABLE:
        return {group.name: group.scores for group in found}
    return {group.name: group.scores / group.scores.mean().clamp_min(1e-12) for group in found}


SURGERY: Final[Mapping[str, Surgery]] = {
    "channel": Surgery(channels.groups, channels.obstacles, channels.remove_, channels.in_turn),
    "head": Surgery(heads.groups, heads.obstacles, heads.remove_, heads.in_turn),
}
