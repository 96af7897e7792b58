"""Whether channels stay apart on their way: then cutting some does what silencing them does.

torch-pruning takes an operation that it does not know for one that leaves every channel in its place, and looks at
shapes alone: a channel shuffle then loses other channels than were meant.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from typing import Any, Final

import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch.func import functional_call

from tasks.models.normalised import Normalised
from tasks.prune.graph import TRANSPOSED, Graph, role

KINDS: Final = tp.ops.OPTYPE
# autograd's names of operations that work on each channel alone; of all others it is tried out
ONE_BY_ONE: Final = frozenset(
    f"{name}Backward0"
    for name in (
        *("Relu", "LeakyRelu", "Elu", "Gelu", "Silu", "Sigmoid", "Tanh", "Softplus", "Mish"),
        *("Hardtanh", "Hardswish", "Hardsigmoid", "Add", "Sub", "Mul"),
        *("MaxPool2DWithIndices", "AvgPool2D", "AdaptiveMaxPool2D", "AdaptiveAvgPool2D"),
        "T",  # how a linear layer reads its weight
    )
)
TOLERANCE: Final = 1e-4  # of the largest output; rounding makes about a hundredth of that


def doubtful(group: Any) -> list[str]:
    """Operations on the group's way that may carry channels elsewhere, as autograd calls them."""
    names = [_operation(item.dep.target) for item in group]
    if any(role(item) in ("makes", "reads") and max(item.idxs) >= _channels(item) for item in group):
        names.append("broadcasting")  # of a single channel to all others
    return list(dict.fromkeys(name for name in names if name))


def inexact(model: nn.Module, input_shape: Sequence[int], cuts: Mapping[str, Sequence[int]]) -> list[str]:
    """Which of the cuts, channels by layer name, change more than silencing these channels does."""
    if not cuts or _is_exact(model, input_shape, cuts):
        return []
    if len(cuts) == 1:
        return list(cuts)
    names = list(cuts)
    halves = names[: len(names) // 2], names[len(names) // 2 :]
    return [name for half in halves for name in inexact(model, input_shape, {name: cuts[name] for name in half})]


def half_of(channels: int) -> list[int]:
    """Channels to cut on trial, so that what is left is no mirror image and has no regular gaps."""
    drawn = torch.randperm(max(0, channels - 2), generator=torch.Generator().manual_seed(0)) + 1
    return [0, *drawn[: channels // 2 - 1].tolist()] if channels > 1 else []


def _operation(node: Any) -> str | None:
    """Its name, where it may carry channels elsewhere."""
    if node.type in (KINDS.SPLIT, KINDS.UNBIND, KINDS.EXPAND, KINDS.SLICE, KINDS.CONCAT, KINDS.RESHAPE):
        kept = _keeps_channels(node.grad_fn, node.type)
    elif node.type == KINDS.ELEMENTWISE and node.grad_fn is not None:
        name = node.grad_fn.name()
        kept = name in ONE_BY_ONE or (name.startswith("Mean") and _is_of_places(node.grad_fn))
    else:
        return None
    return None if kept else node.grad_fn.name().partition("Backward")[0]


def _keeps_channels(operation: Any, kind: Any) -> bool:
    if kind == KINDS.CONCAT:
        return bool(operation._saved_dim == 1)
    if kind != KINDS.RESHAPE:
        return False
    before, after = operation._saved_self_sym_sizes, operation._input_metadata[0].shape
    # of a picture or a vector, whose second dimension are the channels: it is flattened, or only its places are
    if len(before) not in (2, 4):
        return False
    return tuple(after[:2]) == tuple(before[:2]) or (len(before) == 4 and len(after) == 2 and after[0] == before[0])


def _is_of_places(mean: Any) -> bool:
    if len(mean._saved_self_sym_sizes) != 4 or not hasattr(mean, "_saved_dim"):
        return False
    # autograd keeps -1 as 2^64 - 1, of which 4 is a divisor too
    return {dimension % 4 for dimension in mean._saved_dim} == {2, 3}


def _is_exact(model: nn.Module, input_shape: Sequence[int], cuts: Mapping[str, Sequence[int]]) -> bool:
    model = deepcopy(model).eval()
    graph, inputs = Graph(model, input_shape), _inputs(model, input_shape)
    try:
        with torch.no_grad():
            silenced = _silenced(model, [graph.group(*cut) for cut in cuts.items()])
            silent = functional_call(model, silenced, (inputs,))
            for name, channels in cuts.items():
                graph.cut_(name, channels)
            cut = model(inputs)
    except (RuntimeError, ValueError, IndexError, TypeError, AttributeError):
        return False
    return torch.allclose(silent, cut, rtol=0, atol=TOLERANCE * float(silent.abs().max()), equal_nan=True)


def _silenced(model: nn.Module, groups: Collection[Any]) -> dict[str, Tensor]:
    """The model's parameters where what makes, scales and reads these channels is zero, by name."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    found: dict[str, Tensor] = {}
    for group in groups:
        for item in group:
            layer, part = item.dep.target.module, role(item)
            if part is None:
                continue
            for own, parameter in layer.named_parameters(recurse=False):
                if part == "reads" and own == "bias":
                    continue
                silent = found.setdefault(names[parameter], parameter.detach().clone())
                silent.index_fill_(_dimension(layer, part) if own == "weight" else 0, torch.tensor(item.idxs), 0)
    return found


def _dimension(layer: nn.Module, part: str | None) -> int:
    """Of its weight, that which counts the channels."""
    if part == "scales" or getattr(layer, "groups", 1) > 1:
        return 0
    return int((part == "reads") != isinstance(layer, TRANSPOSED))


def _channels(item: Any) -> int:
    layer = item.dep.target.module
    return int(layer.weight.shape[_dimension(layer, role(item))])


def _inputs(model: nn.Module, input_shape: Sequence[int]) -> Tensor:
    """Two samples as the model may get them."""
    drawn = torch.randn(2, *input_shape, generator=torch.Generator().manual_seed(0))
    return drawn / model.inverse_std.clamp_min(1e-6) + model.mean if isinstance(model, Normalised) else drawn
