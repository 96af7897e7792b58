"""Whole blocks: which can go, what the model loses without each, and their removal."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from math import inf
from typing import Any

import torch
from torch import Tensor, nn

from tasks.models.normalised import Normalised
from tasks.models.skipped import Skipped, skip_
from tasks.params.prune import LayerPruning
from tasks.prune.allocation import NothingToCut, Sensitivity, Unreachable
from tasks.prune.calibration import recalibrate_
from tasks.prune.cost import share_left
from tasks.prune.evidence import Evidence
from tasks.prune.graph import check_runs
from tasks.prune.matrices import Masks
from tasks.prune.selection import ignored, named


def blocks(
    model: nn.Module, input_shape: Sequence[int], listed: Sequence[str] = (), leave: Collection[nn.Module] = ()
) -> list[str]:
    """Names of the blocks that can go, in the model's order: those listed, or the innermost that add to their input.

    A block keeps the shape of its input. One that holds a layer in `leave`, or without which the model does not run,
    is none; nor is what was removed before.

    Raises:
        NothingToCut: no block can go.
        ValueError: a listed block does not exist or cannot go.
    """
    calls = _calls(model, input_shape)
    if listed:
        named_here = {named(model, name, "prune.blocks") for name in listed if not _is_gone(model, name)}
        chosen = [name for name, _ in model.named_modules(remove_duplicate=False) if name in named_here]
        for name in chosen:
            _check_goes(model, input_shape, name, calls.get(name))
    else:
        residual = [name for name, call in calls.items() if call.keeps_shape and _adds(model.get_submodule(name), call)]
        innermost = [name for name in residual if not any(other.startswith(f"{name}.") for other in residual)]
        chosen = [name for name in innermost if _runs_without(model, input_shape, name)]
    found = [name for name in chosen if not set(model.get_submodule(name).modules()) & set(leave)]
    if not found:
        raise NothingToCut(
            "prune: no block can be removed: none "
            + ("of prune.blocks is left" if listed else "adds to its input and keeps its shape")
            + (", or prune.ignore or prune.protect keeps it" if leave else "")
            + "; list others in prune.blocks, or use pattern channel"
        )
    return found


def scan(model: nn.Module, params: LayerPruning, evidence: Evidence) -> list[Sensitivity]:
    """Loss and accuracy without one block, for each that can go.

    Raises:
        ValueError: as `blocks`, or an ignored layer does not exist.
    """
    return _tried(model, _removable(model, params, evidence), params, evidence)


def shrink_(model: nn.Module, params: LayerPruning, evidence: Evidence, shares: Sequence[float]) -> Iterator[Masks]:
    """Remove blocks up to each of `shares` of the way to the target, pausing after each for the model to recover.

    The block goes without which the loss is least, is measured anew, and so on; for a target of latency the one whose
    rise of the loss is least for what its removal saves. Yields no masks: what is cut is gone.

    Raises:
        ValueError: the target cannot be met.
    """
    assert not isinstance(params.target, str)  # each rung of the ladder has a target of its own
    measure, target = params.target.measure
    removable, left = _removable(model, params, evidence), share_left(measure, model, evidence)
    bare = deepcopy(model)
    for name in removable:
        _skip_if_there_(bare, name)
    if (least := left(bare)) > target:
        raise Unreachable(
            target,
            least,
            f"without any of its {len(removable)} removable blocks {least:.3f} of the "
            f"{measure} is left; raise it, list more in prune.blocks, or ignore and protect less",
        )
    # once, each alone: every measurement is an export and some rounds of the clock
    saved = {name: 1 - left(_without(model, name)) for name in removable} if measure == "latency" else {}
    for share in shares:
        while left(model) > 1 - share * (1 - target):
            points = _tried(model, removable, params, evidence)
            if not points:  # a clock that says now what it did not say before
                break
            baseline, _ = _scored(deepcopy(model), params, evidence) if saved else (0.0, 0.0)
            skip_(model, cheapest(points, baseline, saved))
            if params.recalibrate and evidence.samples is not None:
                recalibrate_(model, evidence.samples)
        yield {}


def cheapest(points: Sequence[Sensitivity], baseline: float, saved: Mapping[str, float]) -> str:
    """The block to remove: of least loss without it, or of least rise above `baseline` per share of latency `saved`.

    Of blocks without a rise the one that saves most; one that saves nothing goes last.
    """

    def price(point: Sensitivity) -> tuple[float, float]:
        if not saved:
            return point.loss, 0.0
        share, rise = saved[point.layer], max(0.0, point.loss - baseline)
        return (rise / share, -share) if share > 0 else (inf, rise)

    return min(points, key=price).layer


def _tried(model: nn.Module, removable: Sequence[str], params: LayerPruning, evidence: Evidence) -> list[Sensitivity]:
    points = []
    modules = dict(model.named_modules())
    for name in removable:
        if name not in modules or isinstance(modules[name], Skipped):
            continue
        points.append(Sensitivity(name, 1.0, *_scored(_without(model, name), params, evidence)))
    return points


def _scored(candidate: nn.Module, params: LayerPruning, evidence: Evidence) -> tuple[float, float]:
    if params.recalibrate and evidence.samples is not None:
        recalibrate_(candidate, evidence.samples)
    return evidence.score(candidate)


def _removable(model: nn.Module, params: LayerPruning, evidence: Evidence) -> list[str]:
    leave = ignored(model, params.ignore)
    if params.protect.first or params.protect.last:
        ends = [model.get_submodule(name) for name in blocks(model, evidence.input_shape, params.blocks)]
        leave |= set(ends[:1]) if params.protect.first else set()
        leave |= set(ends[-1:]) if params.protect.last else set()
    return blocks(model, evidence.input_shape, params.blocks, leave)


def _without(model: nn.Module, name: str) -> nn.Module:
    candidate = deepcopy(model)
    skip_(candidate, name)
    return candidate


def _is_gone(model: nn.Module, name: str) -> bool:
    """Whether the block of this name, or one that it lay in, was removed before."""
    names = (name, f"model.{name}") if isinstance(model, Normalised) else (name,)
    return any(
        isinstance(module, Skipped) and any(f"{own}.".startswith(f"{known}.") for own in names)
        for known, module in model.named_modules(remove_duplicate=False)
    )


def _skip_if_there_(model: nn.Module, name: str) -> None:
    if name in dict(model.named_modules()):
        skip_(model, name)


@dataclass
class _Call:
    """What a module was called with, the first time, and the shapes that went in and came out."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    shapes: list[tuple[Any, Any]] = field(default_factory=list)

    @property
    def keeps_shape(self) -> bool:
        return all(before is not None and before == after for before, after in self.shapes)


def _calls(model: nn.Module, input_shape: Sequence[int]) -> dict[str, _Call]:
    """By name, for each module with parameters that runs; the model as a whole aside."""
    found: dict[str, _Call] = {}

    def watch(name: str) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: object) -> None:
            call = found.setdefault(name, _Call(args, kwargs))
            call.shapes.append((_shape(args[0]) if args else None, _shape(output)))

        return hook

    handles = [
        module.register_forward_hook(watch(name), with_kwargs=True)
        for name, module in model.named_modules()
        if name not in ("", "model") and any(True for _ in module.parameters())
    ]
    training = model.training
    with torch.no_grad():
        model.eval()(torch.rand(2, *input_shape, generator=torch.Generator().manual_seed(0)))
    model.train(training)
    for handle in handles:
        handle.remove()
    return {name: found[name] for name, _ in model.named_modules() if name in found}


def _shape(value: object) -> tuple[int, ...] | None:
    return tuple(value.shape) if isinstance(value, Tensor) else None


@torch.no_grad()
def _adds(module: nn.Module, call: _Call) -> bool:
    """Whether it adds something to its input: with all its weights at zero it passes the input on."""
    if isinstance(module, nn.TransformerEncoderLayer):
        return True  # which normalises the sum
    silent = deepcopy(module).eval()
    for parameter in silent.parameters():
        parameter.zero_()
    return bool(call.args[0].any()) and torch.equal(silent(*call.args, **call.kwargs), call.args[0])


def _runs_without(model: nn.Module, input_shape: Sequence[int], name: str) -> bool:
    try:
        check_runs(_without(model, name), input_shape, name)
    except ValueError:
        return False
    return True


def _check_goes(model: nn.Module, input_shape: Sequence[int], name: str, call: _Call | None) -> None:
    if call is None:
        raise ValueError(f"prune.blocks: '{name}' has no weights of its own, or never runs; name another block")
    if not call.keeps_shape:
        before, after = next((before, after) for before, after in call.shapes if before is None or before != after)
        raise ValueError(
            f"prune.blocks: '{name}' cannot go: it turns {_said(before)} into {_said(after)}; name blocks that keep "
            "the shape of their input"
        )
    if not _runs_without(model, input_shape, name):
        raise ValueError(f"prune.blocks: '{name}' cannot go: the model does not run without it; name another block")


def _said(shape: tuple[int, ...] | None) -> str:
    return "no single tensor" if shape is None else f"shape {shape[1:]}"
