"""Where and how tensors are computed with: the device, its autocast, the memory layout."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor


def device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(precision: str, target: torch.device) -> AbstractContextManager[object]:
    """bfloat16 where asked for, else nothing."""
    return torch.autocast(target.type, torch.bfloat16, enabled=precision == "bfloat16")


def moved(inputs: Tensor, target: torch.device) -> Tensor:
    """Inputs on the device, images with their channels last (oneDNN and cuDNN are faster so)."""
    if target.type == "cuda":
        inputs = inputs.pin_memory()
    layout = torch.channels_last if inputs.ndim == 4 else torch.contiguous_format
    return inputs.to(target, memory_format=layout, non_blocking=True)
