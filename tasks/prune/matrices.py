"""The weights that may be pruned one by one, and what keeps others dense."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from torch import Tensor, nn

from tasks.models.attention import Attention
from tasks.params import UnstructuredPruning
from tasks.params.prune import NmPruning
from tasks.prune.criteria import BY_INPUTS, CRITERIA
from tasks.prune.graph import TRANSPOSED, called
from tasks.prune.selection import ignored, listed

Masks = dict[str, Tensor]
WeightPruning = UnstructuredPruning | NmPruning
SEEN: Final = (nn.Conv1d, nn.Conv2d, nn.Linear)  # of which it is known what each weight multiplies
ATTENTION: Final = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")


def weights(model: nn.Module, leave: Collection[nn.Module] = ()) -> dict[str, nn.Parameter]:
    """By parameter name: of convolutions, linear and recurrent layers, and of attention."""
    kept = {parameter for module in leave for parameter in module.parameters(recurse=False)}
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter not in kept and _is_matrix(owner(model, name), name.rpartition(".")[2])
    }


def chosen(model: nn.Module, params: WeightPruning, input_shape: Sequence[int]) -> dict[str, nn.Parameter]:
    """Those that the params prune.

    Raises:
        ValueError: there are none, or an ignored layer does not exist.
    """
    leave = _whole(model, params, input_shape)
    able = weights(model, leave)
    found = {name: weight for name, weight in able.items() if _obstacle(owner(model, name), weight, params) is None}
    if not found and leave:
        raise ValueError(
            f"prune.ignore and prune.protect keep all weights that {params.criterion.method} could prune; keep fewer"
        )
    if not found:
        raise ValueError(
            f"prune.pattern {params.pattern}: the model has no weights that {params.criterion.method} can prune; "
            "use another criterion or pattern"
        )
    return found


def surviving(model: nn.Module, params: WeightPruning, input_shape: Sequence[int]) -> Masks:
    """True where a weight that the params prune is not zero yet."""
    return {name: weight.detach() != 0 for name, weight in chosen(model, params, input_shape).items()}


def notes(model: nn.Module, params: WeightPruning, input_shape: Sequence[int]) -> list[str]:
    """What is left dense though nobody asked for it, and why."""
    leave, able = _whole(model, params, input_shape), weights(model)
    by_reason: dict[str, list[str]] = {}
    for name, parameter in model.named_parameters():
        module = owner(model, name)
        if parameter.ndim < 2 or module in leave:
            continue
        unknown = f"as no rule is known for a {type(module).__name__}"
        reason = _obstacle(module, parameter, params) if name in able else unknown
        if reason:
            by_reason.setdefault(reason, []).append(name.removesuffix(".weight"))
    return [f"left dense, {reason}: {listed(names)}" for reason, names in by_reason.items()]


def owner(model: nn.Module, name: str) -> nn.Module:
    """The module that has the parameter of this name."""
    return model.get_submodule(name.rpartition(".")[0])


def _whole(model: nn.Module, params: WeightPruning, input_shape: Sequence[int]) -> set[nn.Module]:
    leave = ignored(model, params.ignore)
    if params.protect.first or params.protect.last:
        layers = called(model, input_shape)
        leave |= set(layers[:1]) if params.protect.first else set()
        leave |= set(layers[-1:]) if params.protect.last else set()
    return leave


def _is_matrix(module: nn.Module, own: str) -> bool:
    if isinstance(module, (*SEEN, *TRANSPOSED)):
        return own == "weight"
    if isinstance(module, nn.RNNBase):
        return own.startswith("weight")
    return isinstance(module, nn.MultiheadAttention | Attention) and own in ATTENTION


def _obstacle(module: nn.Module, weight: nn.Parameter, params: WeightPruning) -> str | None:
    """Why the params cannot prune these weights, which could be pruned otherwise."""
    if CRITERIA[params.criterion.method] in BY_INPUTS and not isinstance(module, SEEN):
        return f"as {params.criterion.method} asks what a weight multiplies, known of convolutions and linear layers"
    if isinstance(params, NmPruning) and isinstance(module, TRANSPOSED):
        return "as a transposed convolution has its outputs, not its inputs, side by side"
    if isinstance(params, NmPruning) and weight.shape[1] < params.m:
        return f"as they have fewer than {params.m} inputs"
    return None
