"""Products of 8-bit numbers as each kind of processor adds them up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[Any]
# x86 before VNNI adds two products of unsigned by signed bytes in 16 bits, which can overflow; with signed activations,
# and on ARM and VNNI, it cannot
Arithmetic = Literal["u8s8_saturating", "s8s8"]
ARITHMETICS: Final[tuple[Arithmetic, ...]] = ("u8s8_saturating", "s8s8")
INT16: Final = (-(2**15), 2**15 - 1)


def product(
    activations: Integers, weights: Integers, zeros: tuple[Integers, Integers], arithmetic: Arithmetic
) -> npt.NDArray[np.float64]:
    """(rows, n): the matrix product of both less their zero points, whole numbers.

    activations: (rows, k), uint8. weights: (k, n), int8, or uint8, whose kernels widen first and never saturate.
    zeros: zero point of the activations, and of the weights, a scalar or (n,).
    """
    centred, kernel = activations - zeros[0].astype(np.float64), weights - zeros[1].astype(np.float64)
    exact: npt.NDArray[np.float64] = centred @ kernel  # float64 holds such sums exactly
    if weights.dtype != np.int8 or activations.dtype != np.uint8:
        return exact
    shift = 128 if arithmetic == "s8s8" else 0
    return exact - _lost(activations.astype(np.int32) - shift, weights.astype(np.int32), (-shift, 255 - shift))


def _lost(activations: Integers, weights: Integers, values: tuple[int, int]) -> npt.NDArray[np.float64]:
    """(rows, n): what saturation to int16 takes off the sum, over pairs of neighbours along k.

    values: the least and greatest that an activation can be.
    """
    if len(weights) % 2:  # the kernels fill up with zeros
        weights, activations = np.pad(weights, ((0, 1), (0, 0))), np.pad(activations, ((0, 0), (0, 1)))
    reach = weights[..., None] * np.array(values)
    highest, lowest = reach.max(-1), reach.min(-1)
    possible = (highest[::2] + highest[1::2] > INT16[1]) | (lowest[::2] + lowest[1::2] < INT16[0])
    lost = np.zeros((len(activations), weights.shape[1]))
    for column in np.flatnonzero(possible.any(0)):
        first = 2 * np.flatnonzero(possible[:, column])
        pairs = activations[:, first] * weights[first, column] + activations[:, first + 1] * weights[first + 1, column]
        lost[:, column] = (pairs - np.clip(pairs, *INT16)).sum(1)
    return lost


def patches(pictures: Integers, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> Integers:
    """(batch, *places, *kernel, channels): what a convolution multiplies, in the order in which the runtime adds up.

    pictures: (batch, channels, *sizes), padded already.
    """
    spatial = range(2, pictures.ndim)
    spans = [(size - 1) * step + 1 for size, step in zip(kernel, dilations, strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(pictures, spans, axis=tuple(spatial))
    steps = [slice(None, None, step) for step in (*strides, *dilations)]
    return np.moveaxis(windows[(slice(None), slice(None), *steps)], 1, -1)
