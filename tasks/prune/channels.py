"""Channels that must go together, their scores and their removal; the dependency graph is torch-pruning's."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch_pruning as tp
from torch import Tensor, nn

from tasks import checkpoint
from tasks.data.batches import Samples
from tasks.prune.criteria import ROLES, Criterion, Units, taylor
from tasks.prune.evidence import input_changes

TRANSPOSED: Final = (nn.ConvTranspose1d, nn.ConvTranspose2d)
PRUNED: Final = (nn.Conv1d, nn.Conv2d, nn.Linear, *TRANSPOSED)
OUTPUTS: Final = (tp.prune_conv_out_channels, tp.prune_linear_out_channels, tp.prune_depthwise_conv_out_channels)
INPUTS: Final = (tp.prune_conv_in_channels, tp.prune_linear_in_channels)
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
    """

    name: str
    scores: Tensor
    kind: str = ""

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

    The output layer is left alone, and what takes its channels from a layer in `leave` or of a kind without a rule.
    samples: of the training, for a criterion that looks at data. seed: of a criterion that draws.

    Raises:
        ValueError: the architecture cannot be traced, has no such layer, or the criterion does not suit it.
    """
    order = {name: place for place, (name, _) in enumerate(model.named_modules())}
    names = {module: name for name, module in model.named_modules()}
    traced = sorted(_traced(model, input_shape, leave), key=lambda group: order[names[_root(group)]])
    changes: dict[nn.Module, Tensor] = {}
    if criterion is taylor:
        if samples is None:
            raise ValueError("prune.criterion taylor: needs training samples")
        readers = {item.dep.target.module for group in traced for item in group if _role(item) == "reads"}
        changes = input_changes(model, samples, [module for module in model.modules() if module in readers])
    generator = torch.Generator().manual_seed(seed)
    return [
        Group(names[_root(group)], _scores(group, criterion, changes, generator, names[_root(group)]), _kind(group))
        for group in traced
    ]


def remove_(model: nn.Module, input_shape: Sequence[int], cuts: Mapping[str, Sequence[int]]) -> None:
    """Cut output channels, by layer name, and all that depends on them; the layers become smaller in place.

    Raises:
        ValueError: a layer would be left empty, or the model no longer runs.
    """
    training = model.training
    for name, channels in cuts.items():
        if not channels:
            continue
        group = _group(model, input_shape, name, channels)
        if not group._DG.check_pruning_group(group):
            raise ValueError(f"prune: cutting {len(channels)} channels of {name} would leave a layer empty")
        group.prune()
        check_runs(model, input_shape, name)
    model.train(training)


def readers(
    model: nn.Module, input_shape: Sequence[int], name: str, channels: Sequence[int]
) -> list[tuple[nn.Module, list[int]]]:
    """Layers that lose inputs when `channels` of layer `name` are cut, each with the outputs that it loses too."""
    training = model.training
    group = _group(model, input_shape, name, channels)
    model.train(training)
    lost = {item.dep.target.module: list(item.idxs) for item in group if _role(item) == "makes"}
    return [(item.dep.target.module, lost.get(item.dep.target.module, [])) for item in group if _role(item) == "reads"]


def called(model: nn.Module, input_shape: Sequence[int]) -> list[nn.Module]:
    """Convolutions and linear layers in the order in which they run; the last one gives the output."""
    found: list[nn.Module] = []
    handles = [
        module.register_forward_hook(lambda layer, *_: found.append(layer))
        for module in model.modules()
        if isinstance(module, PRUNED)
    ]
    training = model.training
    with torch.no_grad():
        model.eval()(torch.zeros(2, *input_shape))
    model.train(training)
    for handle in handles:
        handle.remove()
    return found


def _traced(model: nn.Module, input_shape: Sequence[int], leave: Collection[nn.Module]) -> Iterator[Any]:
    if not any(isinstance(module, PRUNED) for module in model.modules()):
        raise ValueError("prune: the model has no convolution or linear layer")
    graph = _graph(model, input_shape)
    left = [*called(model, input_shape)[-1:], *leave]
    found, obstacles = False, {}
    for group in graph.get_all_groups(ignored_layers=left, root_module_types=list(PRUNED)):
        if any(item.dep.target.type == KINDS.OUTPUT for item in group):
            continue
        obstacle = next(filter(None, map(_obstacle, group)), None)
        if obstacle:
            obstacles[obstacle] = True
            continue
        found = True
        yield group
    if not found and obstacles:
        raise ValueError(
            f"prune: no layer can lose channels: all are tied to {', '.join(obstacles)}, which cannot be cut; "
            "use pattern unstructured or n_m"
        )
    if not found:
        raise ValueError(
            "prune: no layer can lose channels: the model has no convolution or linear layer before its output"
            + (" that prune.ignore and prune.protect do not keep" if leave else "")
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
        return f"{'an' if type(layer).__name__[0] in 'AEIOL' else 'a'} {type(layer).__name__}"
    if getattr(layer, "groups", 1) == 1 or (layer.groups == layer.in_channels == layer.out_channels):
        return None
    return f"a {type(layer).__name__} in {layer.groups} groups"


def _graph(model: nn.Module, input_shape: Sequence[int]) -> Any:
    # torch-pruning follows autograd, so every parameter must ask for a gradient
    model.eval()
    try:
        if _fills_by_parts(model(torch.zeros(2, *input_shape))):
            raise ValueError("it writes into part of a tensor, as circular padding does")
        return tp.DependencyGraph().build_dependency(model, example_inputs=torch.zeros(2, *input_shape), verbose=False)
    except (RuntimeError, ValueError, KeyError, AttributeError, TypeError, AssertionError, IndexError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"prune: the model cannot be traced ({reason}); use pattern unstructured for it") from None


def _fills_by_parts(outputs: Tensor) -> bool:
    """Whether a tensor on the way is filled part by part, where torch-pruning goes round in circles for ever."""
    waiting, seen = [outputs.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        if node.name().endswith("CopySlices"):
            return True
        seen.add(node)
        waiting += [following for following, _ in node.next_functions]
    return False


def _group(model: nn.Module, input_shape: Sequence[int], name: str, channels: Sequence[int]) -> Any:
    layer = model.get_submodule(name)
    out = tp.prune_linear_out_channels if isinstance(layer, nn.Linear) else tp.prune_conv_out_channels
    return _graph(model, input_shape).get_pruning_group(layer, out, idxs=sorted(channels))


def check_runs(model: nn.Module, input_shape: Sequence[int], name: str) -> None:
    """Whether the model still runs, in eval mode, after something of the layer `name` was cut.

    Raises:
        ValueError: it does not; the message says why.
    """
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(2, *input_shape))
    except (RuntimeError, ValueError, IndexError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"prune: without what was cut of {name} the model no longer runs ({reason}); add it to prune.ignore"
        ) from None


def _kind(group: Any) -> str:
    """Its operations and what is cut of each: what isomorphic groups have in common."""
    return " ".join(sorted(f"{type(item.dep.target.module).__name__}.{item.dep.handler.__name__}" for item in group))


def _root(group: Any) -> nn.Module:
    layer: nn.Module = group[0].dep.target.module
    return layer


def _role(item: Any) -> str | None:
    """What the layer has to do with the channels: it makes them, scales them, or reads them."""
    layer, cut = item.dep.target.module, item.dep.handler
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
        return "scales"
    if not isinstance(layer, PRUNED):
        return None
    return "makes" if cut in OUTPUTS else "reads" if cut in INPUTS else None


def _scores(
    group: Any, criterion: Criterion, changes: Mapping[nn.Module, Tensor], generator: torch.Generator, name: str
) -> Tensor:
    channels = 1 + max(max(item.root_idxs) for item in group if item.root_idxs is not None)
    if criterion is taylor:
        return taylor(Units(torch.empty(channels, 0), change=_change(group, channels, changes, name)))
    total, counted = torch.zeros(channels), False
    for item in group:
        layer, role = item.dep.target.module, _role(item)
        if role not in ROLES.get(criterion, frozenset({"makes", "reads"})) or layer.weight is None:
            continue
        weight = layer.weight.detach()
        if role != "scales" and (role == "makes") == isinstance(layer, TRANSPOSED):
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
        if _role(item) == "reads" and item.dep.target.module in changes:
            own = changes[item.dep.target.module][:, item.idxs]
            parts.append(own.new_zeros(len(own), channels).index_add_(1, torch.tensor(item.root_idxs), own))
    if not parts:
        raise ValueError(f"prune.criterion taylor: no gradient reaches what reads '{name}'; use l2")
    same = len({len(part) for part in parts}) == 1
    return torch.stack(parts).sum(0) if same else torch.cat(parts)
