"""Pruning of single weights: the smallest of the whole model become zero, or some of every few along the inputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from math import ceil
from typing import Final

import torch
from torch import Tensor, nn

from tasks.params.prune import NmPruning
from tasks.prune import matrices
from tasks.prune.allocation import Sensitivity
from tasks.prune.calibration import recalibrate_
from tasks.prune.criteria import BY_ROW, CRITERIA, Criterion, Units, sparsegpt, taylor, wanda
from tasks.prune.evidence import Evidence, input_grams, input_norms, weight_changes
from tasks.prune.matrices import Masks, WeightPruning, chosen, owner, weights
from tasks.prune.sparsegpt import Choose, solve_

SOLVED_COLUMNS: Final = 128  # ranked together at most, as in SparseGPT's paper
SOLVED_BLOCKS: Final = 8  # at least: ranked all at once, inputs go together with those that could stand in for them


def scan(model: nn.Module, params: WeightPruning, evidence: Evidence) -> list[Sensitivity]:
    """Loss and accuracy with one layer's lowest weights zeroed, for every layer and ratio.

    Raises:
        ValueError: an ignored layer does not exist, nothing can be pruned, or the criterion does not suit the model.
    """
    points = []
    ratios = (1 - params.n / params.m,) if isinstance(params, NmPruning) else params.sensitivity.ratios
    for name, scores in _scores(model, params, evidence).items():
        for ratio in ratios:
            candidate = deepcopy(model)
            _zero_(candidate, params, evidence, ratio, {name: scores})
            if params.recalibrate and evidence.samples is not None:
                recalibrate_(candidate, evidence.samples)
            points.append(Sensitivity(name.removesuffix(".weight"), ratio, *evidence.score(candidate)))
    return points


def shrink_(model: nn.Module, params: WeightPruning, evidence: Evidence, shares: Sequence[float]) -> Iterator[Masks]:
    """Zero weights up to each of `shares` of the target in turn, pausing after each with the masks to respect."""
    assert params.target != "budget"  # each rung of the ladder has a target of its own
    whole = 1 - params.n / params.m if isinstance(params, NmPruning) else params.target.sparsity
    for share in shares:
        keep = _zero_(model, params, evidence, share * whole, _scores(model, params, evidence))
        if params.recalibrate and evidence.samples is not None:
            recalibrate_(model, evidence.samples)
        yield keep


def notes(model: nn.Module, params: WeightPruning, evidence: Evidence) -> list[str]:
    """What a user of the pattern should know.

    Raises:
        ValueError: nothing can be pruned, or an ignored layer does not exist.
    """
    if isinstance(params, NmPruning):
        speed = (
            f"{params.n}:{params.m} gains no speed on a CPU: no runtime here uses the pattern; some GPUs do, for 2:4"
        )
    else:
        speed = "single zero weights gain no speed: no runtime here uses them; `downsize pack` makes the file smaller"
    return [speed, *matrices.notes(model, params, evidence.input_shape)]


def weight_scores(
    model: nn.Module, criterion: Criterion, evidence: Evidence, of: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """A score for each weight in `of`, by parameter name; what is zero already stays the lowest, at -1.

    Raises:
        ValueError: the criterion does not suit a layer.
    """
    generator = torch.Generator().manual_seed(evidence.seed)
    changes: dict[str, Tensor] = {}
    norms: dict[nn.Module, Tensor] = {}
    training = model.training
    model.eval()
    if criterion is taylor and evidence.samples is not None:
        changes = weight_changes(model, evidence.samples, of)
    if criterion is wanda and evidence.samples is not None:
        norms = input_norms(model, evidence.samples, [owner(model, name) for name in of])
    model.train(training)
    found = {}
    for name, weight in of.items():
        layer, values = owner(model, name), weight.detach()
        if (criterion is taylor and name not in changes) or (criterion is wanda and layer not in norms):
            what, short = "gradient" if criterion is taylor else "input", name.removesuffix(".weight")
            raise ValueError(f"prune.criterion: no {what} reaches '{short}'; put it in prune.ignore, or use l1")
        scores = criterion(
            Units(
                values.reshape(-1, 1),
                change=changes[name].reshape(1, -1) if changes else None,
                inputs=norms[layer].reshape(-1) if norms else None,
                generator=generator,
            )
        )
        found[name] = scores.view_as(values).masked_fill(values == 0, -1)
    return found


def masks(scores: Mapping[str, Tensor], sparsity: float, by_row: bool = False) -> Masks:
    """True where a weight is kept: one threshold for all, and exactly `sparsity` of the weights go.

    by_row: instead, each row of each weight loses that share, to within one.
    """
    if by_row:
        return {name: _row_mask(own, sparsity) for name, own in scores.items()}
    flat = torch.cat([own.flatten() for own in scores.values()])
    keep = torch.ones(len(flat), dtype=torch.bool)
    keep[flat.argsort(stable=True)[: round(sparsity * len(flat))]] = False
    pieces = torch.split(keep, [own.numel() for own in scores.values()])
    return {name: piece.view_as(scores[name]) for name, piece in zip(scores, pieces, strict=True)}


def n_m_mask(scores: Tensor, drop: int, m: int) -> Tensor:
    """True where a weight is kept: of every m that follow each other along the inputs the `drop` lowest go.

    scores: (outputs, inputs, *kernel). Inputs after the last whole m are kept.
    """
    along = scores.movedim(1, -1)
    whole = along.shape[-1] // m * m
    keep = torch.ones(along.shape, dtype=torch.bool)
    if whole:
        blocks = along[..., :whole].reshape(*along.shape[:-1], -1, m)
        lowest = blocks.argsort(dim=-1, stable=True)[..., :drop]
        keep[..., :whole] = torch.ones_like(blocks, dtype=torch.bool).scatter(-1, lowest, False).flatten(-2)
    return keep.movedim(-1, 1)


@torch.no_grad()
def apply_(model: nn.Module, keep: Mapping[str, Tensor]) -> None:
    """Zero what the masks do not keep."""
    parameters = weights(model)
    for name, mask in keep.items():
        parameters[name].mul_(mask)


def _scores(model: nn.Module, params: WeightPruning, evidence: Evidence) -> Mapping[str, Tensor]:
    """Of every weight to prune; SparseGPT's are only known as it goes, and the weights stand in for them."""
    found, criterion = chosen(model, params, evidence.input_shape), CRITERIA[params.criterion.method]
    return found if criterion is sparsegpt else weight_scores(model, criterion, evidence, found)


def _zero_(
    model: nn.Module, params: WeightPruning, evidence: Evidence, ratio: float, scores: Mapping[str, Tensor]
) -> Masks:
    if CRITERIA[params.criterion.method] is sparsegpt:
        grams = _grams(model, evidence, scores)
        return {name: _solve_(weights(model)[name], gram, params, ratio) for name, gram in grams.items()}
    keep = _masks(scores, params, ratio)
    apply_(model, keep)
    return keep


def _grams(model: nn.Module, evidence: Evidence, names: Iterable[str]) -> dict[str, Tensor]:
    """What each layer's inputs have in common, before any layer is pruned.

    The paper prunes in turn, each layer for the inputs that those before leave it: on Fashion-MNIST that was worse.
    """
    layers = {name: owner(model, name) for name in names}
    if evidence.samples is None:
        raise ValueError("prune.criterion sparsegpt: needs training samples")
    training = model.training
    grams = input_grams(model.eval(), evidence.samples, layers.values())
    model.train(training)
    for name, layer in layers.items():
        short = name.removesuffix(".weight")
        if getattr(layer, "groups", 1) > 1:
            raise ValueError(
                f"prune.criterion sparsegpt: '{short}' is a {type(layer).__name__} in groups; "
                "put it in prune.ignore, or use wanda"
            )
        if layer not in grams:
            raise ValueError(f"prune.criterion: no input reaches '{short}'; put it in prune.ignore, or use l1")
    return {name: grams[layer] for name, layer in layers.items()}


@torch.no_grad()
def _solve_(weight: Tensor, gram: Tensor, params: WeightPruning, ratio: float) -> Tensor:
    # the inputs that follow each other are the channels, position by position of a kernel
    order = torch.arange(len(gram)).view(weight.shape[1:]).movedim(0, -1).flatten()
    flat = weight.flatten(1)[:, order]
    widths, choose = _choice(params, ratio, weight.shape[1], len(gram))
    solved = solve_(flat, gram[order][:, order], widths, choose)
    back = order.argsort()
    weight.copy_(flat[:, back].view_as(weight))
    return solved[:, back].view_as(weight)


def _choice(params: WeightPruning, ratio: float, inputs: int, columns: int) -> tuple[list[int], Choose]:
    """The blocks of columns in which SparseGPT chooses, and its choice in one."""
    if isinstance(params, NmPruning):
        m, drop = params.m, round(ratio * params.m)
        rest = [inputs % m] if inputs % m else []
        return ([m] * (inputs // m) + rest) * (columns // inputs), lambda scores, _: n_m_mask(scores, drop, m)
    most = min(SOLVED_COLUMNS, ceil(columns / SOLVED_BLOCKS))
    whole, left = divmod(columns, most)

    def choose(scores: Tensor, start: int) -> Tensor:
        rows, width = scores.shape
        drop = round(ratio * rows * (start + width)) - round(ratio * rows * start)  # in all exactly the ratio
        keep = torch.ones(scores.numel(), dtype=torch.bool)
        keep[scores.flatten().argsort(stable=True)[:drop]] = False
        return keep.view_as(scores)

    return [most] * whole + ([left] if left else []), choose


def _masks(scores: Mapping[str, Tensor], params: WeightPruning, ratio: float) -> Masks:
    if isinstance(params, NmPruning):
        drop = round(ratio * params.m)
        return {name: n_m_mask(own, drop, params.m) for name, own in scores.items()}
    if params.scope == "uniform" and CRITERIA[params.criterion.method] not in BY_ROW:
        return {name: masks({name: own}, ratio)[name] for name, own in scores.items()}
    return masks(scores, ratio, by_row=CRITERIA[params.criterion.method] in BY_ROW)


def _row_mask(scores: Tensor, sparsity: float) -> Tensor:
    rows = scores.flatten(1)
    # where the share is no whole number, rows take turns, so that the sum is right
    ends = [round(sparsity * rows.shape[1] * row) for row in range(len(rows) + 1)]
    drop = torch.tensor(ends).diff()[:, None]
    rank = rows.argsort(dim=1, stable=True).argsort(dim=1, stable=True)
    keep: Tensor = rank >= drop
    return keep.view_as(scores)
