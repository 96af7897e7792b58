"""What a model costs on paper: multiply-accumulates, parameters, bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

COMPANIONS: Final[Mapping[str, tuple[str, ...]]] = {".xml": (".bin",)}


def macs(model: nn.Module, input_shape: Sequence[int]) -> int:
    """Multiply-accumulates of convolutions and matrix products for one sample."""
    counter = FlopCounterMode(
        display=False,
        custom_mapping={  # what PyTorch itself does not count on a CPU
            torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
            torch.ops.aten.mkldnn_rnn_layer: _recurrent_flops,
        },
    )
    training, short_cut = model.training, torch.backends.mha.get_fastpath_enabled()
    # the short cut of transformer layers hides their products
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with counter, torch.no_grad():
            model.eval()(torch.zeros(1, *input_shape))
    finally:
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


def _recurrent_flops(inputs: Sequence[int], own: Sequence[int], state: Sequence[int], *_: object, **__: object) -> int:
    """Of both products in every step; inputs: (steps, batch, inputs), own and state: shapes of the weights."""
    return 2 * inputs[0] * inputs[1] * (own[0] * own[1] + state[0] * state[1])


def deployed_bytes(path: Path) -> int:
    """Of a file that is served, with what must lie beside it: OpenVINO's weights, beside its graph."""
    companions = [path.with_suffix(suffix) for suffix in COMPANIONS.get(path.suffix, ())]
    return sum(file.stat().st_size for file in (path, *companions))
