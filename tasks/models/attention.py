"""Attention that has lost heads: nn.MultiheadAttention cannot say that its heads no longer fill the embedding."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Stands for an nn.MultiheadAttention with `num_heads` of its heads: same call, same answers, same weights' names.

    in_proj_weight: (3 * num_heads * head_dim, embed_dim), the queries' rows first, then keys' and values'.
    """

    def __init__(self, origin: nn.MultiheadAttention, num_heads: int) -> None:
        super().__init__()
        self.embed_dim, self.num_heads, self.head_dim = origin.embed_dim, num_heads, origin.head_dim
        self.batch_first, self.dropout = origin.batch_first, origin.dropout
        # torch's layers look at this before they take a short cut that knows no missing heads
        self._qkv_same_embed_dim = False
        width, bias = num_heads * origin.head_dim, origin.in_proj_bias is not None
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, origin.embed_dim))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width)) if bias else None
        self.out_proj = nn.utils.skip_init(nn.Linear, width, origin.embed_dim, bias=bias)  # type: ignore[no-untyped-call]

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As nn.MultiheadAttention, for batches: (answers, weights or None).

        is_causal: a hint without meaning here, as attn_mask comes with it.

        Raises:
            ValueError: the input is no batch, or the mask has a part for every head.
        """
        if query.ndim != 3 or (attn_mask is not None and attn_mask.ndim != 2):
            raise ValueError("attention that lost heads takes batches of sequences and one mask for all heads")
        if not self.batch_first:
            query, key, value = (tensor.transpose(0, 1) for tensor in (query, key, value))
        weights = self.in_proj_weight.chunk(3)
        biases = self.in_proj_bias.chunk(3) if self.in_proj_bias is not None else (None, None, None)
        q, k, v = (
            F.linear(tensor, weight, bias).reshape(*tensor.shape[:2], self.num_heads, self.head_dim).transpose(1, 2)
            for tensor, weight, bias in zip((query, key, value), weights, biases, strict=True)
        )
        mask = _sum(_additive(attn_mask, q), _additive(key_padding_mask, q, padding=True))
        dropout = self.dropout if self.training else 0.0
        attention: Tensor | None = None
        if need_weights:
            scores = q @ k.transpose(-2, -1) * self.head_dim**-0.5
            attention = F.dropout((scores if mask is None else scores + mask).softmax(-1), dropout)
            mixed = attention @ v
            attention = attention.mean(1) if average_attn_weights else attention
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, mask, dropout)
        answers: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return (answers if self.batch_first else answers.transpose(0, 1)), attention


def prunable(module: nn.Module) -> bool:
    """Whether heads can be taken from it: attention of the plain kind, whole or already smaller."""
    if isinstance(module, Attention):
        return True
    return type(module) is nn.MultiheadAttention and bool(
        module._qkv_same_embed_dim and module.bias_k is None and not module.add_zero_attn
    )


def keep_heads_(model: nn.Module, name: str, heads: Sequence[int]) -> None:
    """Put attention with only these heads, in this order, in the place of the one of this name."""
    origin = model.get_submodule(name)
    assert isinstance(origin, nn.MultiheadAttention | Attention)
    smaller = Attention(origin, len(heads))  # type: ignore[arg-type]
    rows = _rows(heads, origin.head_dim)
    with torch.no_grad():
        for own, old in ((smaller.in_proj_weight, origin.in_proj_weight), (smaller.in_proj_bias, origin.in_proj_bias)):
            if own is not None and old is not None:
                own.copy_(torch.cat([part[rows] for part in old.chunk(3)]))
        smaller.out_proj.weight.copy_(origin.out_proj.weight[:, rows])
        if origin.out_proj.bias is not None:
            smaller.out_proj.bias.copy_(origin.out_proj.bias)
    smaller.train(origin.training)
    for alias in [alias for alias, own in model.named_modules(remove_duplicate=False) if own is origin]:
        model.set_submodule(alias, smaller)
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False  # nested tensors are for the short cut only


def _rows(heads: Sequence[int], head_dim: int) -> list[int]:
    return [head * head_dim + place for head in heads for place in range(head_dim)]


def _additive(mask: Tensor | None, like: Tensor, padding: bool = False) -> Tensor | None:
    """Minus infinity where nothing may be looked at; broadcastable to (batch, heads, queries, keys)."""
    if mask is None:
        return None
    if mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=like.dtype).masked_fill(mask, -inf)
    return mask[:, None, None] if padding else mask


def _sum(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    return second if first is None else first if second is None else first + second
