"""Weights of an INT8 file in fewer bits: it still computes in eight, and stores two levels to the byte."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from tasks.quantize.qdq import Floats, constants, integer_layers, store_, values, with_constants

INT4_OPSET: Final = 21  # the first whose Cast reads four-bit integers
# how much of the largest weight the last level stands for
SHARES: Final = np.linspace(1.0, 0.3, 71)


def narrow(model: onnx.ModelProto, bits: Mapping[str, int]) -> onnx.ModelProto:
    """The file with the weights of these layers in so many bits: levels from -(2^(bits-1) - 1) up, per channel.

    Each channel's step is the one with the least squared error.

    bits: by the names of qdq.layers; the others stay as they are.
    """
    source = constants(model.graph)
    held = dict(source)
    for layer in integer_layers(model.graph):
        if layer.name in bits:
            weight, greatest = values(layer.weight, source), 2 ** (bits[layer.name] - 1) - 1
            step = best_steps(weight, layer.weight.axis, greatest).reshape(source[layer.weight.step].shape)
            bias = values(layer.bias, source) if layer.bias else None
            store_(held, layer, weight, step, (-greatest, greatest), bias)
    return with_constants(model, held)


def best_steps(weight: Floats, axis: int, greatest: int) -> Floats:
    """(channels,): of each channel along the axis the step with which levels up to `greatest` err least."""
    rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)
    full = np.maximum(np.abs(rows).max(1), np.finfo(np.float32).tiny * greatest) / greatest
    steps = np.stack([full * share for share in SHARES])
    errors = np.stack([_squared_error(rows, step[:, None], greatest) for step in steps])
    best: Floats = steps[errors.argmin(0), np.arange(len(rows))].astype(np.float32)
    return best


def store_narrow(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same file with every weight whose levels fit four bits stored so, and widened once when it is loaded."""
    held = constants(model.graph)
    fit = [
        name
        for name in dict.fromkeys(layer.weight.levels for layer in integer_layers(model.graph))
        if _fits(held[name])
    ]
    if not fit:
        return model
    made = onnx.ModelProto()
    made.CopyFrom(model)
    for item in made.opset_import:
        if item.domain == "":
            item.version = max(item.version, INT4_OPSET)
    stored = {item.name: item for item in made.graph.initializer}
    for name in fit:
        made.graph.initializer.remove(stored[name])
        made.graph.initializer.append(_halves(held[name], f"{name}.halves"))
    widened = [helper.make_node("Cast", [f"{name}.halves"], [name], to=TensorProto.INT8) for name in fit]
    nodes = [*widened, *made.graph.node]
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    return made


def weight_bytes(model: onnx.ModelProto) -> dict[str, int]:
    """Of each layer's weight, as it would be stored; two that share one have its bytes each."""
    held = constants(model.graph)
    return {
        layer.name: -(-held[layer.weight.levels].size // (2 if _fits(held[layer.weight.levels]) else 1))
        for layer in integer_layers(model.graph)
    }


def _squared_error(rows: Floats, step: Floats, greatest: int) -> Floats:
    error: Floats = np.square(np.clip(np.rint(rows / step), -greatest, greatest) * step - rows).sum(1)
    return error


def _fits(levels: npt.NDArray[Any]) -> bool:
    return levels.dtype == np.int8 and levels.size > 0 and levels.min() >= -8 and levels.max() <= 7


def _halves(levels: npt.NDArray[Any], name: str) -> TensorProto:
    flat = levels.ravel().astype(np.uint8) & 15
    flat = np.pad(flat, (0, flat.size % 2))
    return helper.make_tensor(name, TensorProto.INT4, levels.shape, (flat[::2] | flat[1::2] << 4).tobytes(), raw=True)
