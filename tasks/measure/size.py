"""What a model costs on paper: multiply-accumulates and parameters."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def macs(model: nn.Module, input_shape: Sequence[int]) -> int:
    """Multiply-accumulates of convolutions and matrix products for one sample."""
    # PyTorch itself counts attention on a GPU only
    attention = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops}
    counter = FlopCounterMode(display=False, custom_mapping=attention)
    training, short_cut = model.training, torch.backends.mha.get_fastpath_enabled()
    # the short cut of transformer layers hides their products
    torch.backends.mha.set_fastpath_enabled(False)
    with counter, torch.no_grad():
        model.eval()(torch.zeros(1, *input_shape))
    torch.backends.mha.set_fastpath_enabled(short_cut)
    model.train(training)
    return int(counter.get_total_flops()) // 2


def parameters(model: nn.Module) -> int:
    """Number of trainable values, zeros included."""
    return sum(parameter.numel() for parameter in model.parameters())


def nonzero(model: nn.Module) -> int:
    """Number of trainable values that are not zero."""
    return sum(int(parameter.count_nonzero()) for parameter in model.parameters())


def _attention_flops(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: object, **__: object) -> int:
    """Of both products; shapes are (batch, heads, length, head size)."""
    batch, heads, length, size = query
    return 2 * batch * heads * length * key[2] * (size + value[3])
