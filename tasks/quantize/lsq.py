"""Rounding that gradients pass, towards the value and towards the size of the step.

Esser et al. 2020, Learned Step Size Quantization, arXiv:1902.08153.
"""

from __future__ import annotations

from math import sqrt

from torch import Tensor


def levels(values: Tensor, step: Tensor, zero: Tensor, limits: tuple[int, int]) -> Tensor:
    """Whole numbers within the limits: what QuantizeLinear gives, in float.

    Less zero and times the step again, as in DequantizeLinear, the gradients are the paper's: eq. 3 towards the step,
    and towards the value one inside of the limits and none outside.

    step and zero: broadcastable to `values`.
    """
    return (rounded(values / step) + zero).clamp(*limits)


def scaled(step: Tensor, sharing: int, largest: float) -> Tensor:
    """The step, its gradient times 1 / sqrt(N * Q): then as large, for its size, as that of the values.

    sharing: N, the values of one sample that a step stands for. largest: Q, the greatest level, counted from zero.
    """
    return step.detach() + (step - step.detach()) / sqrt(sharing * largest)


def rounded(values: Tensor) -> Tensor:
    """To whole numbers, half to even as the runtime does, with the gradient of the identity."""
    return values.detach().round() + (values - values.detach())
