"""Channels that must go together, their scores and their removal; the dependency graph is torch-pruning's."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch
import torch_pruning as tp
from torch import Tensor, nn

from tasks import checkpoint
from tasks.data.batches import Samples
from tasks.models.attention import Attention
from tasks.prune.allocation import NothingToCut
from tasks.prune.criteria import ROLES, Criterion, Units, taylor
from tasks.prune.evidence import input_changes
from tasks.prune.exactness import doubtful, half_of, inexact
from tasks.prune.graph import INPUTS, PRUNED, TRANSPOSED, Graph, called, check_runs, role

KINDS: Final = tp.ops.OPTYPE
# what passes channels on without keeping anything about them
PASSING: Final = (
    *(KINDS.CONCAT, KINDS.SPLIT, KINDS.ELEMENTWISE, KINDS.RESHAPE),
    *(KINDS.UNBIND, KINDS.EXPAND, KINDS.SLICE),
)


@dataclass(frozen=True)
class Group:
    """Output channels of layer `name`, with everything that must be cut along with them.

    scores: (channels,), summed over all layers of the group; higher is kept longer.
    kind: what the group is made of; scores of equal kinds compare.
    ties: how many "outputs" or "inputs" of which layer, by its name, the channels are in all.
    """

    name: str
    scores: Tensor
    kind: str = ""
    ties: Mapping[tuple[str, str], int] = field(default_factory=dict)

    @property
    def channels(self) -> int:
        """How many there are."""
        return len(self.scores)


def groups(
    model: nn.Module,
    input_shape: Sequence[int],
    criterion: Criterion,
    *,
    samples: Samples | None = None,
    seed: int = 0,
    leave: Collection[nn.Module] = (),
) -> list[Group]:
    """Every group of channels that can be cut, in the order of the model's layers.

    The output layer is left alone, and what takes its channels from a layer in `leave`, or is tied to what `obstacles`
    says.
    samples: of the training, for a criterion that looks at data. seed: of a criterion that draws.

    Raises:
        NothingToCut: no group of channels can be cut.
        ValueError: the architecture cannot be traced, or the criterion does not suit it.
    """
    names = {module: name for name, module in model.named_modules()}
    order = {module: place for place, module in enumerate(names)}
    training = model.training
    found, left = _traced(Graph(model.eval(), input_shape), leave)
    if not found:
        raise NothingToCut(_nothing(left, leave))
    traced = sorted(found, key=lambda group: order[_root(group)])
    changes: dict[nn.Module, Tensor] = {}
    if criterion is taylor:
        if samples is None:
            raise ValueError("prune.criterion taylor: needs training samples")
        reading = {item.dep.target.module for group in traced for item in group if role(item) == "reads"}
        changes = input_changes(model, samples, [module for module in model.modules() if module in reading])
    model.train(training)
    generator = torch.Generator().manual_seed(seed)
    return [
        Group(
            names[_root(group)],
            _scores(group, criterion, changes, generator, names[_root(group)]),
            _kind(group),
            _ties(group, names),
        )
        for group in traced
    ]


def obstacles(model: nn.Module, input_shape: Sequence[int], leave: Collection[nn.Module] = ()) -> dict[str, str]:
    """What keeps layers whole that `leave` does not, by their names: a kind of layer, or an operation they are tied to.

    Raises:
        ValueError: the architecture cannot be traced.
    """
    training = model.training
    _, left = _traced(Graph(model.eval(), input_shape), leave)
    model.train(training)
    order = {name: place for place, (name, _) in enumerate(model.named_modules())}
    for name, parameter in model.named_parameters():
        path = name.rpartition(".")[0]
        module = model.get_submodule(path)
        if parameter.ndim > 1 and not isinstance(module, PRUNED) and module not in leave:
            bare = any(True for _ in module.children()) and not isinstance(module, nn.MultiheadAttention | Attention)
            left[name if bare else path] = "a bare nn.Parameter" if bare else _a(module)
    return {name: left[name] for name in sorted(left, key=lambda name: order.get(name, len(order)))}


def remove_(model: nn.Module, input_shape: Sequence[int], cuts: Mapping[str, Sequence[int]]) -> None:
    """Cut output channels, by layer name, and all that depends on them; the layers become smaller in place.

    Raises:
        ValueError: a layer would be left empty, the model no longer runs, or an operation on the way mixes channels or
            moves them, so that others would be lost.
    """
    cuts = {name: channels for name, channels in cuts.items() if channels}
    if not cuts:
        return
    graph = Graph(model, input_shape)
    unsure = {cut: operations for cut in cuts if (operations := doubtful(graph.group(cut, cuts[cut])))}
    if wrong := inexact(model, input_shape, {name: cuts[name] for name in unsure}):
        raise ValueError(
            f"prune: channels of {wrong[0]} cannot be cut alone, as operations on their way mix or move channels "
            f"({', '.join(unsure[wrong[0]])}); add it to prune.ignore"
        )
    for name, channels in cuts.items():
        graph.cut_(name, channels)
    check_runs(model, input_shape, ", ".join(cuts))


def in_turn(model: nn.Module, input_shape: Sequence[int]) -> list[nn.Module]:
    """Layers that have channels to lose, in the order in which they run; the last of all gives the output."""
    return called(model, input_shape)[:-1]


def readers(graph: Graph, name: str, channels: Sequence[int]) -> list[tuple[nn.Module, list[int]]]:
    """Layers that lose inputs when `channels` of layer `name` are cut, each with the outputs that it loses too."""
    group = graph.group(name, channels)
    lost = {item.dep.target.module: list(item.idxs) for item in group if role(item) == "makes"}
    return [(item.dep.target.module, lost.get(item.dep.target.module, [])) for item in group if role(item) == "reads"]


def _traced(graph: Graph, leave: Collection[nn.Module]) -> tuple[list[Any], dict[str, str]]:
    """Groups that can be cut, and of all others what is in the way, by the name of their layer."""
    model = graph.model
    if not any(isinstance(module, PRUNED) for module in model.modules()):
        raise NothingToCut("prune: the model has no convolution or linear layer; use pattern unstructured or head")
    names = {module: name for name, module in model.named_modules()}
    running = called(model, graph.input_shape)
    whole = [*running[-1:], *leave]
    found: dict[str, Any] = {}
    untied = [layer for layer in running if layer not in graph.dependencies.module2node and layer not in whole]
    left = {names[layer]: "a missing gradient from the output, as by detach() or NumPy" for layer in untied}
    for group in graph.dependencies.get_all_groups(ignored_layers=whole, root_module_types=list(PRUNED)):
        if any(item.dep.target.type == KINDS.OUTPUT for item in group):
            continue
        obstacle = next(filter(None, map(_obstacle, group)), None)
        if obstacle:
            left |= dict.fromkeys(_makers(group, names), obstacle)
        else:
            found[names[_root(group)]] = group
    unsure = {name: operations for name, group in found.items() if (operations := doubtful(group))}
    trials = {name: half_of(_channels(found[name])) for name in unsure}
    for name in inexact(model, graph.input_shape, {name: trial for name, trial in trials.items() if trial}):
        obstacle = f"an operation that mixes or moves channels ({', '.join(unsure[name])})"
        left |= dict.fromkeys(_makers(found.pop(name), names), obstacle)
    for name, group in found.items():
        # all channels of another may be multiplied with a single one, and only the first of them is in its group
        if _channels(group) == 1:
            others = [maker for maker in _makers(group, names) if maker != name]
            left |= dict.fromkeys(others, f"the single channel of {name}")
    return list(found.values()), left


def _nothing(left: Mapping[str, str], leave: Collection[nn.Module]) -> str:
    if left:
        return (
            f"prune: no layer can lose channels: all are tied to {', '.join(dict.fromkeys(left.values()))}, "
            "which cannot be cut; use pattern unstructured or n_m"
        )
    return "prune: no layer can lose channels: the model has no convolution or linear layer before its output" + (
        " that prune.ignore and prune.protect do not keep; keep fewer" if leave else "; use pattern unstructured or n_m"
    )


def _obstacle(item: Any) -> str | None:
    """What keeps a group whole: an operation without a rule here, or whose sizes a checkpoint does not record."""
    node = item.dep.target
    if node.type in PASSING:
        return None
    if isinstance(node.module, nn.Parameter):
        return "a bare nn.Parameter"
    layer = node.module
    if not checkpoint.sizes_of(layer):
        return _a(layer)
    if getattr(layer, "groups", 1) == 1 or (layer.groups == layer.in_channels == layer.out_channels):
        return None
    return f"a {type(layer).__name__} in {layer.groups} groups"


def _a(layer: nn.Module) -> str:
    name = type(layer).__name__
    return f"{'an' if name[0] in 'AEIO' or name == 'LSTM' else 'a'} {name}"


def _kind(group: Any) -> str:
    """Its operations and what is cut of each: what isomorphic groups have in common."""
    return " ".join(sorted(f"{type(item.dep.target.module).__name__}.{item.dep.handler.__name__}" for item in group))


def _ties(group: Any, names: Mapping[nn.Module, str]) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], set[int]] = {}
    for item in group:
        if item.dep.target.module in names:
            side = "inputs" if item.dep.handler in INPUTS else "outputs"
            found.setdefault((names[item.dep.target.module], side), set()).update(item.idxs)
    return {tie: len(channels) for tie, channels in found.items()}


def _channels(group: Any) -> int:
    return 1 + int(max(max(item.root_idxs) for item in group if item.root_idxs is not None))


def _makers(group: Any, names: Mapping[nn.Module, str]) -> list[str]:
    return [names[item.dep.target.module] for item in group if role(item) == "makes"]


def _root(group: Any) -> nn.Module:
    layer: nn.Module = group[0].dep.target.module
    return layer


def _scores(
    group: Any, criterion: Criterion, changes: Mapping[nn.Module, Tensor], generator: torch.Generator, name: str
) -> Tensor:
    channels = _channels(group)
    if criterion is taylor:
        return taylor(Units(torch.empty(channels, 0), change=_change(group, channels, changes, name)))
    total, counted = torch.zeros(channels), False
    for item in group:
        layer, part = item.dep.target.module, role(item)
        if part not in ROLES.get(criterion, frozenset({"makes", "reads"})) or layer.weight is None:
            continue
        weight = layer.weight.detach()
        if part != "scales" and (part == "makes") == isinstance(layer, TRANSPOSED):
            weight = weight.transpose(0, 1)
        rows = weight.reshape(len(weight), -1)[item.idxs]
        total.index_add_(0, torch.tensor(item.root_idxs), criterion(Units(rows, generator=generator)))
        counted = True
    if not counted:
        raise ValueError(
            f"prune.criterion bn_scale: no BatchNorm with a factor follows '{name}'; use l2, or put it in prune.ignore"
        )
    return total


def _change(group: Any, channels: int, changes: Mapping[nn.Module, Tensor], name: str) -> Tensor:
    """(samples, channels): all that reads a channel reads zeros instead."""
    parts: list[Tensor] = []
    for item in group:
        if role(item) == "reads" and item.dep.target.module in changes:
            own = changes[item.dep.target.module][:, item.idxs]
            parts.append(own.new_zeros(len(own), channels).index_add_(1, torch.tensor(item.root_idxs), own))
    if not parts:
        raise ValueError(f"prune.criterion taylor: no gradient reaches what reads '{name}'; use l2")
    same = len({len(part) for part in parts}) == 1
    return torch.stack(parts).sum(0) if same else torch.cat(parts)
