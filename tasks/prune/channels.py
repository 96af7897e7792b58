"""Channels that must go together, their scores and their removal; the dependency graph is torch-pruning's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch_pruning as tp
from torch import Tensor, nn

from tasks.prune.criteria import Criterion

PRUNED: Final = (nn.Conv1d, nn.Conv2d, nn.Linear)
OUTPUTS: Final = (tp.prune_conv_out_channels, tp.prune_linear_out_channels)
INPUTS: Final = (tp.prune_conv_in_channels, tp.prune_linear_in_channels)


@dataclass(frozen=True)
class Group:
    """Output channels of layer `name`, with everything that must be cut along with them.

    scores: (channels,), summed over all layers of the group; higher is kept longer.
    """

    name: str
    scores: Tensor

    @property
    def channels(self) -> int:
        """How many there are."""
        return len(self.scores)


def groups(model: nn.Module, input_shape: Sequence[int], criterion: Criterion) -> list[Group]:
    """Every group of channels that can be cut, in the order of the model's layers; the output layer is left alone.

    Raises:
        ValueError: the architecture cannot be traced, or has no such layer.
    """
    names = {module: name for name, module in model.named_modules()}
    found = [
        Group(names[group[0].dep.target.module], _scores(group, criterion)) for group in _traced(model, input_shape)
    ]
    if not found:
        raise ValueError(
            "prune: no layer can lose channels: the model has no convolution or linear layer before its output"
        )
    order = list(dict(model.named_modules()))
    return sorted(found, key=lambda group: order.index(group.name))


def remove_(model: nn.Module, input_shape: Sequence[int], cuts: Mapping[str, Sequence[int]]) -> None:
    """Cut output channels, by layer name, and all that depends on them; the layers become smaller in place."""
    training = model.training
    for name, channels in cuts.items():
        if not channels:
            continue
        graph = _graph(model, input_shape)
        layer = model.get_submodule(name)
        out = tp.prune_linear_out_channels if isinstance(layer, nn.Linear) else tp.prune_conv_out_channels
        group = graph.get_pruning_group(layer, out, idxs=sorted(channels))
        if not graph.check_pruning_group(group):
            raise ValueError(f"prune: cutting {len(channels)} channels of {name} would leave a layer empty")
        group.prune()
    model.train(training)


def _traced(model: nn.Module, input_shape: Sequence[int]) -> Iterator[Any]:
    layers = [module for module in model.modules() if isinstance(module, PRUNED)]
    if not layers:
        raise ValueError("prune: the model has no convolution or linear layer")
    graph = _graph(model, input_shape)
    yield from graph.get_all_groups(ignored_layers=_outputs(model, input_shape), root_module_types=list(PRUNED))


def _graph(model: nn.Module, input_shape: Sequence[int]) -> Any:
    # torch-pruning follows autograd, so every parameter must ask for a gradient
    model.eval()
    try:
        return tp.DependencyGraph().build_dependency(model, example_inputs=torch.zeros(2, *input_shape), verbose=False)
    except (RuntimeError, ValueError, KeyError, AttributeError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"prune: the model cannot be traced ({reason}); use pattern unstructured for it") from None


def _outputs(model: nn.Module, input_shape: Sequence[int]) -> list[nn.Module]:
    """The layers whose result reaches the logits without passing another layer: the last one that was called."""
    called: list[nn.Module] = []
    handles = [
        module.register_forward_hook(lambda layer, *_: called.append(layer))
        for module in model.modules()
        if isinstance(module, PRUNED)
    ]
    with torch.no_grad():
        model.eval()(torch.zeros(2, *input_shape))
    for handle in handles:
        handle.remove()
    return called[-1:]


def _scores(group: Any, criterion: Criterion) -> Tensor:
    channels = 1 + max(max(item.root_idxs) for item in group if item.root_idxs is not None)
    total = torch.zeros(channels)
    for item in group:
        layer, cut = item.dep.target.module, item.dep.handler
        if not isinstance(layer, PRUNED) or cut not in OUTPUTS + INPUTS:
            continue
        weight = layer.weight.detach()
        rows = (weight if cut in OUTPUTS else weight.transpose(0, 1)).flatten(1)
        total.index_add_(0, torch.tensor(item.root_idxs), criterion(rows[item.idxs]))
    return total
