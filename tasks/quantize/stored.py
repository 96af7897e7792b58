"""Weights in few bits as an ONNX file holds them: bytes, and the operations that expand them once, at load."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Grouped:
    """A weight is (level - zero) * scale; levels: (out, groups, size), below 2**bits; scale, zero: (out, groups, 1)."""

    levels: Bytes
    scale: npt.NDArray[np.float16]
    zero: npt.NDArray[np.float16]
    bits: int

    @property
    def values(self) -> npt.NDArray[np.float32]:
        """(out, groups, size), as the runtime expands them."""
        return (self.levels.astype(np.float32) - self.zero.astype(np.float32)) * self.scale.astype(np.float32)


def expand_(graph: onnx.GraphProto, name: str, found: Grouped, shape: tuple[int, ...], *, upright: bool) -> None:
    """Put `found` and the operations that make the weight `name` of it at the graph's beginning.

    shape: the weight's; its rows, filled up to whole groups, are those of `found`. upright: outputs are columns.
    """
    made = _Expansion(graph, name)
    out, width = len(found.levels), found.levels[0].size
    kept = shape[::-1] if upright else shape
    level = _levels(made, found)
    zero, scale = (made("Cast", made.constant(part), to=TensorProto.FLOAT) for part in (found.zero, found.scale))
    value = made("Mul", made("Sub", level, zero), scale)
    flat = int(np.prod(kept[1:]))
    if flat < width:
        rows = made("Reshape", value, made.constant(np.array([out, width])))
        value = made("Slice", rows, *(made.constant(np.array([place])) for place in (0, flat, 1)))
    value = made("Reshape", value, made.constant(np.array(kept)))
    if upright:
        value = made("Transpose", value)
    made.nodes[-1].output[0] = name
    nodes = [*made.nodes, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def packed_bits(values: Bytes, width: int) -> Bytes:
    """(bytes, 1): 8 / width values a byte, the first in the lowest bits; zeros fill the last."""
    count = 8 // width
    parts = np.pad(values.ravel(), (0, -values.size % count)).reshape(-1, count)
    return np.bitwise_or.reduce(parts << np.arange(0, 8, width, dtype=np.uint8), axis=1, keepdims=True)


class _Expansion:
    """Adds constants to the graph and collects nodes, all below one name."""

    def __init__(self, graph: onnx.GraphProto, name: str) -> None:
        self._graph, self._name = graph, name
        self.nodes: list[onnx.NodeProto] = []
        self._constants = 0

    def __call__(self, operator: str, *inputs: str, **knobs: Any) -> str:
        output = f"{self._name}.{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **knobs))
        return output

    def constant(self, array: npt.NDArray[Any]) -> str:
        name = f"{self._name}.constant{self._constants}"
        self._constants += 1
        self._graph.initializer.append(numpy_helper.from_array(array, name))
        return name


def _levels(made: _Expansion, found: Grouped) -> str:
    """(out, groups, size), float: what packed bytes hold.

    Three bits are two planes: whether a level is in the lower half, and how far from the middle. Both halves being
    alike, the second is far from even, and an entropy coder saves what it would not on the plain two lower bits.
    """
    levels, shape = found.levels, found.levels.shape
    if found.bits != 3:
        return _plane(made, levels, found.bits, shape)
    lower = levels < 4
    distance = _plane(made, np.where(lower, 3 - levels, levels - 4).astype(np.uint8), 2, shape)
    is_lower = made("Cast", _plane(made, lower.astype(np.uint8), 1, shape), to=TensorProto.BOOL)
    three, four = (made.constant(np.array(level, np.float32)) for level in (3, 4))
    return made("Where", is_lower, made("Sub", three, distance), made("Add", distance, four))


def _plane(made: _Expansion, values: Bytes, width: int, shape: tuple[int, ...]) -> str:
    """In float, where every step is exact: OpenVINO 2026.4 gets the bits of a product's weights wrong."""
    stored = packed_bits(values, width)
    shares = made.constant(0.5 ** np.arange(0, 8, width, dtype=np.float32))
    stored_value = made("Cast", made.constant(stored), to=TensorProto.FLOAT)
    shifted = made("Floor", made("Mul", stored_value, shares))
    flat = made("Mod", shifted, made.constant(np.array(2**width, np.float32)), fmod=1)
    if stored.size * (8 // width) > values.size:
        row = made("Reshape", flat, made.constant(np.array([-1])))
        flat = made("Slice", row, *(made.constant(np.array([place])) for place in (0, values.size)))
    return made("Reshape", flat, made.constant(np.array(shape)))
