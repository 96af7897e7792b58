"""The convolutions and products of an INT8 file, with their constants: read as floats, and written back as levels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

Floats = npt.NDArray[np.float32]
HEAVY: Final = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class Stored:
    """A constant behind DequantizeLinear: names of its levels, step and zero point, and the axis of the steps."""

    levels: str
    step: str
    zero: str | None
    axis: int


@dataclass(frozen=True)
class IntegerLayer:
    """An operation with a constant weight in integers.

    name: of its output. input_step: of what it reads, which with the weight's gives the step of the bias.
    """

    name: str
    weight: Stored
    bias: Stored | None
    input_step: str


Constants = dict[str, npt.NDArray[Any]]
Limits = tuple[int, int]


def constants(graph: onnx.GraphProto) -> Constants:
    """All that the file holds, by name."""
    return {item.name: numpy_helper.to_array(item) for item in graph.initializer}


def integer_layers(graph: onnx.GraphProto) -> Iterator[IntegerLayer]:
    """In the order of the graph; two may share a weight."""
    makers = {output: node for node in graph.node for output in node.output}
    held = {item.name for item in graph.initializer}
    for node in graph.node:
        if node.op_type not in HEAVY:
            continue
        fed = [makers.get(name) for name in node.input]
        if any(made is None or made.op_type != "DequantizeLinear" for made in fed[:2]):
            continue
        source, weight, *more = fed
        assert source and weight
        if weight.input[0] in held:
            bias = _stored(more[0]) if more and more[0] and more[0].input[0] in held else None
            yield IntegerLayer(node.output[0], _stored(weight), bias, source.input[1])


def values(found: Stored, held: Mapping[str, npt.NDArray[Any]]) -> Floats:
    """What its readers compute with."""
    levels = held[found.levels]
    zero = held[found.zero].astype(np.float32) if found.zero else np.zeros((), np.float32)
    step = along(held[found.step], found.axis, levels.ndim)
    product: Floats = (levels.astype(np.float32) - along(zero, found.axis, levels.ndim)) * step
    return product


def limits(found: Stored, held: Mapping[str, npt.NDArray[Any]]) -> Limits:
    """The least and greatest level that the constant may have, counted from its zero point.

    As far as any level that occurs, either way: symmetric steps take the greatest weight to the end of its range.
    """
    levels, zero = held[found.levels], int(held[found.zero].flat[0]) if found.zero else 0
    occurring, possible = int(np.abs(levels.astype(np.int64) - zero).max(initial=1)), np.iinfo(levels.dtype)
    return max(-occurring, int(possible.min) - zero), min(occurring, int(possible.max) - zero)


def store_(
    held: Constants, layer: IntegerLayer, weight: Floats, step: Floats, within: Limits, bias: Floats | None
) -> None:
    """Put weight, step and bias in the place of the layer's own, rounded to what their integers can say.

    step: of the shape that the file has. within: the limits of the weight's levels.
    """
    levels = held[layer.weight.levels]
    zero = int(held[layer.weight.zero].flat[0]) if layer.weight.zero else 0
    whole = np.clip(np.rint(weight / along(step, layer.weight.axis, weight.ndim)), *within) + zero
    held[layer.weight.levels], held[layer.weight.step] = whole.astype(levels.dtype), step.astype(np.float32)
    if layer.bias and bias is not None:
        ends = np.iinfo(np.int32)
        tiny = (held[layer.input_step] * step * np.ones_like(held[layer.bias.step])).astype(np.float32)
        whole = np.clip(np.rint(bias.astype(np.float64) / tiny), ends.min, ends.max)
        held[layer.bias.levels], held[layer.bias.step] = whole.astype(np.int32), tiny


def with_constants(model: onnx.ModelProto, held: Mapping[str, npt.NDArray[Any]]) -> onnx.ModelProto:
    """The model with these constants for its own."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    for item in made.graph.initializer:
        item.CopyFrom(numpy_helper.from_array(np.asarray(held[item.name]), item.name))
    return made


def along(array: npt.NDArray[Any], axis: int, rank: int) -> npt.NDArray[Any]:
    """One number for each place on the axis, or for all, in the shape that spreads over an array of so many axes."""
    return array if array.ndim == 0 else array.reshape([-1 if place == axis % rank else 1 for place in range(rank)])


def _stored(node: onnx.NodeProto) -> Stored:
    axis = next((helper.get_attribute_value(item) for item in node.attribute if item.name == "axis"), 1)
    return Stored(node.input[0], node.input[1], node.input[2] if len(node.input) > 2 else None, axis)
