"""Attention heads: their scores and their removal."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from tasks.data.batches import Samples
from tasks.models.attention import Attention, keep_heads_, prunable
from tasks.prune.allocation import NothingToCut
from tasks.prune.channels import Group
from tasks.prune.criteria import ROLES, Criterion, Units, taylor
from tasks.prune.evidence import input_changes
from tasks.prune.graph import called, check_runs


def groups(
    model: nn.Module,
    input_shape: Sequence[int],
    criterion: Criterion,
    *,
    samples: Samples | None = None,
    seed: int = 0,
    leave: Collection[nn.Module] = (),
) -> list[Group]:
    """A group per attention that has more than one head, its heads as channels, in the order of the model's layers.

    A head's score adds up what makes its queries, keys and values and what reads its answers.
    samples: of the training, for a criterion that looks at data. seed: of a criterion that draws.

    Raises:
        NothingToCut: no attention can lose a head.
        ValueError: the criterion does not suit one.
    """
    # the same model, but with attention whose layers all run, so that they can be watched
    open_model = deepcopy(model).eval()
    names = [
        name
        for name, module in model.named_modules()
        if prunable(module) and module.num_heads > 1 and module not in leave
    ]
    if not names:
        raise NothingToCut(
            "prune: no attention can lose a head: the model has no plain nn.MultiheadAttention of several heads"
            + (" that prune.ignore and prune.protect do not keep" if leave else "")
            + "; use pattern channel or layer"
        )
    found: dict[str, Attention] = {}
    for name in names:
        keep_heads_(open_model, name, range(_heads(open_model, name)))
        attention = open_model.get_submodule(name)
        assert isinstance(attention, Attention)
        found[name] = attention
    changes: dict[nn.Module, Tensor] = {}
    if criterion is taylor:
        if samples is None:
            raise ValueError("prune.criterion taylor: needs training samples")
        changes = input_changes(open_model, samples, [attention.out_proj for attention in found.values()])
    generator = torch.Generator().manual_seed(seed)
    return [
        Group(name, _scores(attention, criterion, changes, generator, name), "attention")
        for name, attention in found.items()
    ]


def obstacles(model: nn.Module, input_shape: Sequence[int], leave: Collection[nn.Module] = ()) -> dict[str, str]:
    """What keeps attentions whole that `leave` does not, by their names."""
    return {
        name: "keys or values of another size, bias_kv or add_zero_attn"
        for name, module in model.named_modules()
        if isinstance(module, nn.MultiheadAttention) and not prunable(module) and module not in leave
    }


def remove_(model: nn.Module, input_shape: Sequence[int], cuts: Mapping[str, Sequence[int]]) -> None:
    """Cut heads, by the attention's name; it becomes smaller in place, of a class that has room for that.

    Raises:
        ValueError: an attention would be left without a head, or the model no longer runs.
    """
    for name, heads in cuts.items():
        if not heads:
            continue
        kept = [head for head in range(_heads(model, name)) if head not in set(heads)]
        if not kept:
            raise ValueError(f"prune: cutting {len(heads)} heads of {name} would leave it empty")
        keep_heads_(model, name, kept)
        check_runs(model, input_shape, name)


def in_turn(model: nn.Module, input_shape: Sequence[int]) -> list[nn.Module]:
    """Attentions, in the order in which they run."""
    return called(model, input_shape, (nn.MultiheadAttention, Attention))


def _heads(model: nn.Module, name: str) -> int:
    heads = model.get_submodule(name).num_heads
    assert isinstance(heads, int)
    return heads


def _scores(
    attention: Attention,
    criterion: Criterion,
    changes: Mapping[nn.Module, Tensor],
    generator: torch.Generator,
    name: str,
) -> Tensor:
    shape = (attention.num_heads, attention.head_dim)
    if criterion is taylor:
        if attention.out_proj not in changes:
            raise ValueError(f"prune.criterion taylor: no gradient reaches '{name}'; use l2")
        change = changes[attention.out_proj].reshape(-1, *shape).sum(2)
        return taylor(Units(torch.empty(attention.num_heads, 0), change=change))
    made = attention.in_proj_weight.detach().reshape(3, *shape, -1).transpose(0, 1).flatten(1)
    read = attention.out_proj.weight.detach().T.reshape(*shape, -1).flatten(1)
    roles = ROLES.get(criterion, frozenset({"makes", "reads"}))
    parts = [rows for role, rows in (("makes", made), ("reads", read)) if role in roles]
    return torch.stack([criterion(Units(rows, generator=generator)) for rows in parts]).sum(0)
