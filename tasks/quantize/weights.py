"""Weights alone in few bits, by group; stored so, and expanded once when the file is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from tasks.quantize.layers import Layer, layers, own
from tasks.quantize.stored import Grouped, expand_

Floats = npt.NDArray[np.float32]
# METHODS of HQQ's authors: the norm's exponent, the penalty, its growth, and how often
NORM, PENALTY, GROWTH, ITERATIONS = 0.7, 10.0, 1.01, 20


def rtn(groups: Floats, *, bits: int) -> Grouped:
    """Each weight rounded to the nearest level of its group, whose range holds zero.

    groups: (out, groups, size).
    """
    low, high = (np.minimum(groups.min(-1, keepdims=True), 0), np.maximum(groups.max(-1, keepdims=True), 0))
    scale = _rounded_up((high - low) / (2**bits - 1))
    zero = np.rint(-low / scale.astype(np.float32)).astype(np.float16)
    return Grouped(levels_of(groups, scale, zero, bits), scale, zero, bits)


def hqq(groups: Floats, *, bits: int) -> Grouped:
    """rtn's scale with the zero point, not whole, whose errors have the least norm below one: outliers count little.

    Badri and Shaji 2023, Half-Quadratic Quantization, with the authors' defaults. Never worse than rtn by that norm.
    """
    best = found = rtn(groups, bits=bits)
    scale, penalty = best.scale.astype(np.float32), PENALTY
    for _ in range(ITERATIONS):
        error = groups - found.values
        size = np.maximum(np.abs(error), 1e-8)
        outliers = np.sign(error) * np.maximum(size - size ** (NORM - 1) / penalty, 0)
        zero = (found.levels - (groups - outliers) / scale).mean(-1, keepdims=True).astype(np.float16)
        found = Grouped(levels_of(groups, best.scale, zero, bits), best.scale, zero, bits)
        better = _norm(groups - found.values) < _norm(groups - best.values)
        levels, zero = np.where(better, found.levels, best.levels), np.where(better, found.zero, best.zero)
        best = Grouped(levels, best.scale, zero, bits)
        penalty *= GROWTH
    return best


def quantize_weights(
    model: onnx.ModelProto, quantize: Callable[[Layer, Floats], Grouped], *, group_size: int
) -> onnx.ModelProto:
    """The model with every constant weight of a convolution or product stored in few bits.

    quantize: takes a layer and its weights (outputs, groups, size). Groups run along the inputs of one output, all of
    one size and of group_size at most, the last filled up with zeros. Arithmetic stays in float.

    Raises:
        ValueError: there is no such weight, or one is not finite.
    """
    made, constants = own(model)
    found = layers(made.graph)
    if not found:
        raise ValueError("quantize.scheme: the model has no convolution or product with constant weights")
    for layer in reversed(found):
        weight = numpy_helper.to_array(constants[layer.weight])
        if not np.isfinite(weight).all():
            raise ValueError(f"quantize.scheme: weight {layer.weight} is not finite")
        grouped = quantize(layer, _grouped(layer.rows(weight), group_size))
        expand_(made.graph, layer.weight, grouped, weight.shape, upright=layer.upright)
        made.graph.initializer.remove(constants[layer.weight])
    return made


def _grouped(rows: Floats, largest: int) -> Floats:
    """(out, groups, size), as even as can be, so that little is filled up with zeros."""
    count = -(-rows.shape[1] // largest)
    size = -(-rows.shape[1] // count)
    padded = np.pad(rows, ((0, 0), (0, count * size - rows.shape[1])))
    return padded.reshape(len(rows), count, size)


def _rounded_up(scale: Floats) -> npt.NDArray[np.float16]:
    """In half precision, never below what the range needs, and never zero."""
    half = np.maximum(scale, np.finfo(np.float16).smallest_subnormal).astype(np.float16)
    return np.where(half < scale, np.nextafter(half, np.float16(np.inf)), half)


def levels_of(
    groups: Floats, scale: npt.NDArray[np.float16], zero: npt.NDArray[np.float16], bits: int
) -> npt.NDArray[np.uint8]:
    """The nearest level of each weight; arguments as in Grouped."""
    places = np.rint(groups / scale.astype(np.float32) + zero.astype(np.float32))
    return np.clip(places, 0, 2**bits - 1).astype(np.uint8)


def _norm(errors: Floats) -> Floats:
    total: Floats = (np.abs(errors) ** NORM).sum(-1, keepdims=True)
    return total


WEIGHTS: Final[Mapping[str, Callable[..., Grouped]]] = {"rtn": rtn, "hqq": hqq}
