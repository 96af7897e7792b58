"""Float weights made easier to quantize, and biases that take back what rounding shifts.

Nagel et al. 2019, Data-Free Quantization Through Weight Equalization and Bias Correction, arXiv:1906.04721.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from tasks.measure.nested import reads
from tasks.quantize.inner import Values, inner_values
from tasks.quantize.layers import layers, nearest, own, replace_, unshared

# what a positive factor per channel passes through unchanged
HOMOGENEOUS: Final = frozenset(
    {"Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool", "Identity"}
)
ROUNDS: Final = 20


@dataclass(frozen=True)
class _Pair:
    """Two convolutions of which the second alone reads the first: names of weights and bias, and their layout."""

    first: str
    bias: str | None
    second: str
    depthwise: bool


def equalise(model: onnx.ModelProto) -> tuple[onnx.ModelProto, int]:
    """The same function with each channel's weights as large in the layer that makes it as in the one that reads it.

    Returns:
        The model, and how many pairs of convolutions were equalised.
    """
    made = unshared(model)
    stored = {item.name: item for item in made.graph.initializer}
    arrays = {name: numpy_helper.to_array(item).copy() for name, item in stored.items()}
    pairs = list(_pairs(made.graph, set(stored)))
    for _ in range(ROUNDS):  # a layer in two pairs moves with both
        for pair in pairs:
            _balance_(arrays, pair)
    for name in {name for pair in pairs for name in (pair.first, pair.second, pair.bias) if name}:
        replace_(stored[name], arrays[name])
    return made, len(pairs)


def correct_biases(
    model: onnx.ModelProto, batches: Callable[[], Iterable[Values]], *, largest: int, reference: onnx.ModelProto
) -> tuple[onnx.ModelProto, int]:
    """The model with its biases such that each layer's mean output survives the rounding of all weights before it.

    largest: the greatest level of a weight, of either sign: 127 for eight bits. reference: whose means are wanted: the
    model itself, or what it was before its weights were rounded. One layer after the other.

    Returns:
        The model, and how many layers were corrected.
    """
    made = unshared(model)
    stored = {item.name: item for item in made.graph.initializer}
    found = [
        node
        for node in made.graph.node
        if node.op_type in ("Conv", "Gemm") and len(node.input) > 2 and {*node.input[1:3]} <= stored.keys()
        and len(stored[node.input[2]].dims) == 1
    ]  # fmt: skip
    wanted = _means(reference, found, batches())
    for layer in found:
        lost = wanted[layer.output[0]] - _means(_rounded(made, largest), [layer], batches())[layer.output[0]]
        bias = numpy_helper.to_array(stored[layer.input[2]])
        replace_(stored[layer.input[2]], bias + lost)
    return made, len(found)


def _pairs(graph: onnx.GraphProto, stored: set[str]) -> Iterator[_Pair]:
    uses = Counter(name for node in graph.node for name in reads(node)) + Counter(item.name for item in graph.output)
    readers = {name: node for node in graph.node for name in node.input}
    for node in graph.node:
        if node.op_type != "Conv" or not _owned(node, stored, uses):
            continue
        reader, name = node, node.output[0]
        while uses[name] == 1 and name in readers:
            reader = readers[name]
            if reader.op_type not in HOMOGENEOUS:
                break
            name = reader.output[0]
        if uses[name] != 1 or reader.op_type != "Conv" or reader is node or not _owned(reader, stored, uses):
            continue
        groups, shape = _groups(reader), _shape(graph, reader.input[1])
        if groups == 1 or (groups == shape[0] and shape[1] == 1):
            yield _Pair(node.input[1], node.input[2] if len(node.input) > 2 else None, reader.input[1], groups > 1)


def _owned(node: onnx.NodeProto, stored: set[str], uses: Counter[str]) -> bool:
    """Whether the weights are constants that no other node reads."""
    return all(name in stored and uses[name] == 1 for name in node.input[1:])


def _groups(node: onnx.NodeProto) -> int:
    return next((item.i for item in node.attribute if item.name == "group"), 1)


def _shape(graph: onnx.GraphProto, name: str) -> tuple[int, ...]:
    return next(tuple(item.dims) for item in graph.initializer if item.name == name)


def _balance_(arrays: dict[str, npt.NDArray[Any]], pair: _Pair) -> None:
    first, second = arrays[pair.first], arrays[pair.second]
    axis = 0 if pair.depthwise else 1
    here = np.abs(first).reshape(len(first), -1).max(1)
    there = np.abs(np.moveaxis(second, axis, 0)).reshape(len(first), -1).max(1)
    usable = (here > 0) & (there > 0)
    factor = np.where(usable, np.sqrt(np.where(usable, here, 1) / np.where(usable, there, 1)), 1).astype(first.dtype)
    first /= factor.reshape(-1, *[1] * (first.ndim - 1))
    if pair.bias:
        arrays[pair.bias] /= factor
    second *= factor.reshape([-1 if place == axis else 1 for place in range(second.ndim)])


def _rounded(model: onnx.ModelProto, largest: int) -> onnx.ModelProto:
    """The model with its weights rounded per output channel, as int8.quantize does."""
    made, stored = own(model)
    for layer in layers(made.graph):
        weight = numpy_helper.to_array(stored[layer.weight])
        replace_(stored[layer.weight], layer.stored(nearest(layer.rows(weight), largest), weight.shape))
    return made


def _means(
    model: onnx.ModelProto, nodes: list[onnx.NodeProto], batches: Iterable[Values]
) -> dict[str, npt.NDArray[np.float64]]:
    """(channels,): mean output of each node over samples and places, by the name of the output."""
    totals: dict[str, Any] = {node.output[0]: 0.0 for node in nodes}
    samples = 0
    for found in inner_values(model, list(totals), batches):
        samples += len(next(iter(found.values()), ()))
        for name, values in found.items():
            totals[name] = totals[name] + values.reshape(*values.shape[:2], -1).astype(np.float64).mean(2).sum(0)
    return {name: total / samples for name, total in totals.items()}
