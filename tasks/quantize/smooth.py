"""SmoothQuant: what is hard to quantize in a product's input moves into its weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from tasks.measure.nested import reads
from tasks.quantize.inner import Values, inner_values
from tasks.quantize.layers import Layer, attributes, layers, replace_, unshared

Sizes = npt.NDArray[np.float64]
# what a positive factor per feature passes through unchanged
HOMOGENEOUS = frozenset({"Relu", "LeakyRelu", "Identity"})


@dataclass(frozen=True)
class _Tensor:
    """An input of products alone: its readers, and the constants that take 1 / scale (exponent -1) or scale (+1).

    makers: (constant, axis of its features, exponent).
    """

    name: str
    readers: tuple[Layer, ...]
    makers: tuple[tuple[str, int, int], ...]


def smooth(
    model: onnx.ModelProto, batches: Callable[[], Iterable[Values]], alpha: float
) -> tuple[onnx.ModelProto, int]:
    """The same function with each feature of a product's input divided by a scale and its weights multiplied by it.

    The scale is max|input|^alpha / max|weight|^(1 - alpha): with alpha 0 the weights become even, with 1 the inputs.
    Whatever made the input takes the division, so that nothing is computed anew: a LayerNormalization, a product, or
    constants that are added or multiplied. Inputs that anything else reads, or that come from elsewhere, stay.

    Returns:
        The model, and how many products were changed.

    Xiao et al. 2022, arXiv:2211.10438, eq. 4.
    """
    made = unshared(model)
    stored = {item.name: item for item in made.graph.initializer}
    arrays = {name: numpy_helper.to_array(item).copy() for name, item in stored.items()}
    found = list(_tensors(made.graph, arrays))
    sizes: dict[str, Any] = dict.fromkeys((tensor.name for tensor in found), 0.0)
    for values in inner_values(made, list(sizes), batches()) if found else ():
        for name, held in values.items():
            sizes[name] = np.maximum(sizes[name], np.abs(held).reshape(-1, held.shape[-1]).max(0))
    changed: set[str] = set()
    for tensor in found:
        weights = [(layer.weight, 0 if layer.upright else 1) for layer in tensor.readers]
        scale = _scale(sizes[tensor.name], [np.abs(arrays[name]).max(1 - axis) for name, axis in weights], alpha)
        for name, axis, exponent in (*((*weight, 1) for weight in weights), *tensor.makers):
            _multiply_(arrays, name, axis, scale**exponent)
            changed.add(name)
    for name in changed:
        replace_(stored[name], arrays[name])
    return made, sum(len(tensor.readers) for tensor in found)


def _scale(inputs: Sizes, weights: list[Sizes], alpha: float) -> Sizes:
    """(features,); 1 where an input or all its weights are zero, as there is nothing to balance."""
    largest = np.max(weights, axis=0)
    usable = (inputs > 0) & (largest > 0)
    inputs, largest = (np.where(usable, size, 1).astype(np.float64) for size in (inputs, largest))
    scale: Sizes = inputs**alpha / largest ** (1 - alpha)
    return np.where(usable, scale, 1)


def _multiply_(arrays: dict[str, npt.NDArray[Any]], name: str, axis: int, factor: Sizes) -> None:
    shape = [1] * arrays[name].ndim
    shape[axis] = -1
    arrays[name] = (arrays[name] * factor.reshape(shape)).astype(arrays[name].dtype)


def _tensors(graph: onnx.GraphProto, arrays: Mapping[str, npt.NDArray[Any]]) -> Iterator[_Tensor]:
    uses = Counter(name for node in graph.node for name in reads(node)) + Counter(item.name for item in graph.output)
    makers = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[Layer]] = {}
    for layer in layers(graph):
        for node in layer.nodes:
            if node.op_type != "Conv" and not attributes(node).get("transA"):
                readers.setdefault(node.input[0], []).append(layer)
    for name, found in readers.items():
        features = arrays[found[0].weight].shape[0 if found[0].upright else 1]
        if uses[name] == len(found) and (constants := _makers(name, makers, uses, arrays, features)):
            yield _Tensor(name, tuple(found), constants)


def _makers(
    name: str,
    nodes: Mapping[str, onnx.NodeProto],
    uses: Mapping[str, int],
    arrays: Mapping[str, npt.NDArray[Any]],
    features: int,
) -> tuple[tuple[str, int, int], ...] | None:
    """The constants that scale the tensor `name`, as in _Tensor; None where there are none, or others would feel it."""
    added: list[tuple[str, int, int]] = []
    while (node := nodes.get(name)) is not None:
        constants = [read for read in node.input if read in arrays]
        vectors = [read for read in constants if arrays[read].shape[-1:] == (features,) == (arrays[read].size,)]
        if node.op_type in HOMOGENEOUS or (node.op_type == "Transpose" and _keeps_features(node)):
            name = node.input[0]
        elif node.op_type in ("Add", "Sub") and len(vectors) == 1:
            added.append(_vector(vectors[0], arrays, -1))
            name = next(read for read in node.input if read != vectors[0])
        else:
            scaling = _scaling(node, vectors, arrays)
            return (*added, *scaling) if scaling else None
        if uses[name] != 1:
            return None
    return None


def _scaling(
    node: onnx.NodeProto, vectors: list[str], arrays: Mapping[str, npt.NDArray[Any]]
) -> list[tuple[str, int, int]]:
    """The constants by which the node's output can be divided, feature by feature; none where it cannot."""
    parameters = list(node.input[1:])
    if node.op_type == "Mul" and len(vectors) == 1:
        return [_vector(vectors[0], arrays, -1)]
    if node.op_type == "Div" and vectors == parameters:
        return [_vector(vectors[0], arrays, 1)]
    if node.op_type == "LayerNormalization" and vectors == parameters:
        return [_vector(name, arrays, -1) for name in vectors]
    if node.op_type in ("MatMul", "Gemm") and parameters[0] in arrays and vectors == parameters[1:]:
        axis = 0 if attributes(node).get("transB") else arrays[parameters[0]].ndim - 1
        return [(parameters[0], axis, -1), *(_vector(name, arrays, -1) for name in vectors)]
    return []


def _keeps_features(transpose: onnx.NodeProto) -> bool:
    order = attributes(transpose).get("perm", [0])
    return bool(order[-1] == len(order) - 1)


def _vector(name: str, arrays: Mapping[str, npt.NDArray[Any]], exponent: int) -> tuple[str, int, int]:
    return name, arrays[name].ndim - 1, exponent
