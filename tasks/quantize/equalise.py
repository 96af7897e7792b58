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
from onnx import helper, numpy_helper

from tasks.quantize.inner import Values, inner_values

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
    made = _unshared(model)
    stored = {item.name: item for item in made.graph.initializer}
    arrays = {name: numpy_helper.to_array(item).copy() for name, item in stored.items()}
    pairs = list(_pairs(made.graph, set(stored)))
    for _ in range(ROUNDS):  # a layer in two pairs moves with both
        for pair in pairs:
            _balance_(arrays, pair)
    for name in {name for pair in pairs for name in (pair.first, pair.second, pair.bias) if name}:
        stored[name].CopyFrom(numpy_helper.from_array(arrays[name], name))
    return made, len(pairs)


def correct_biases(
    model: onnx.ModelProto, batches: Callable[[], Iterable[Values]], *, largest: int
) -> tuple[onnx.ModelProto, int]:
    """The model with its biases such that each layer's mean output survives the rounding of all weights before it.

    largest: the greatest level of a weight, of either sign: 127 for eight bits. One layer after the other.

    Returns:
        The model, and how many layers were corrected.
    """
    made = _unshared(model)
    stored = {item.name: item for item in made.graph.initializer}
    layers = [
        node
        for node in made.graph.node
        if node.op_type in ("Conv", "Gemm") and len(node.input) > 2 and {*node.input[1:3]} <= stored.keys()
        and len(stored[node.input[2]].dims) == 1
    ]  # fmt: skip
    wanted = _means(model, layers, batches())
    for layer in layers:
        lost = wanted[layer.output[0]] - _means(_rounded(made, largest), [layer], batches())[layer.output[0]]
        bias = numpy_helper.to_array(stored[layer.input[2]])
        stored[layer.input[2]].CopyFrom(numpy_helper.from_array((bias + lost).astype(bias.dtype), layer.input[2]))
    return made, len(layers)


def _unshared(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with a constant of its own wherever a layer reads one that others read too: files merge equal ones."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    stored = {item.name: item for item in made.graph.initializer}
    seen: set[str] = set()
    for node in made.graph.node:
        for place, name in enumerate(node.input):
            if node.op_type in ("Conv", "Gemm") and name in seen:
                node.input[place] = f"{name}.{node.output[0]}"
                own = made.graph.initializer.add()
                own.CopyFrom(stored[name])
                own.name = node.input[place]
            elif name in stored:
                seen.add(name)
    return made


def _pairs(graph: onnx.GraphProto, stored: set[str]) -> Iterator[_Pair]:
    uses = Counter(name for node in graph.node for name in node.input) + Counter(item.name for item in graph.output)
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
    made = onnx.ModelProto()
    made.CopyFrom(model)
    stored = {item.name: item for item in made.graph.initializer}
    for node in made.graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul") or node.input[1] not in stored:
            continue
        weight = numpy_helper.to_array(stored[node.input[1]])
        flags = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        outputs = 0 if node.op_type == "Conv" or flags.get("transB") else weight.ndim - 1
        others = tuple(axis for axis in range(weight.ndim) if axis != outputs)
        step = np.maximum(np.abs(weight).max(others, keepdims=True), 1e-12) / largest
        rounded = (np.rint(weight / step) * step).astype(weight.dtype)
        stored[node.input[1]].CopyFrom(numpy_helper.from_array(rounded, node.input[1]))
    return made


def _means(
    model: onnx.ModelProto, layers: list[onnx.NodeProto], batches: Iterable[Values]
) -> dict[str, npt.NDArray[np.float64]]:
    """(channels,): mean output of each layer over samples and places, by the name of the output."""
    totals: dict[str, Any] = {layer.output[0]: 0.0 for layer in layers}
    samples = 0
    for found in inner_values(model, list(totals), batches):
        samples += len(next(iter(found.values()), ()))
        for name, values in found.items():
            totals[name] = totals[name] + values.reshape(*values.shape[:2], -1).astype(np.float64).mean(2).sum(0)
    return {name: total / samples for name, total in totals.items()}
