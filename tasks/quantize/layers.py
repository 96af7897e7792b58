"""Convolutions and products with constant weights, each as one product: rows of weights by columns of inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from tasks.measure.nested import captured
from tasks.quantize.inner import Values, inner_values
from tasks.quantize.products import patches

HEAVY: Final = ("Conv", "Gemm", "MatMul")
Gram = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Layer:
    """A constant weight and the nodes that read it.

    title: its place, kind and shape, for people, as names in a file are but letters.
    upright: whether its outputs are columns. groups: of the convolution; 1 for others.
    """

    weight: str
    title: str
    nodes: tuple[onnx.NodeProto, ...]
    upright: bool
    groups: int

    def rows(self, weight: npt.NDArray[Any]) -> Values:
        """(outputs, inputs), float32, of a weight as it is stored."""
        weight = weight.astype(np.float32)
        return weight.T if self.upright else weight.reshape(len(weight), -1)

    def stored(self, rows: Values, shape: tuple[int, ...]) -> Values:
        """The reverse of `rows`."""
        return np.ascontiguousarray(rows.T) if self.upright else rows.reshape(shape)


def layers(graph: onnx.GraphProto) -> list[Layer]:
    """Every convolution and product whose weight is a constant matrix or kernel, in the graph's order."""
    dims = {item.name: item.dims for item in graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        # a product with more dimensions is one of many small matrices
        if (
            node.op_type in HEAVY
            and node.input[1] in dims
            and (node.op_type == "Conv" or len(dims[node.input[1]]) == 2)
        ):
            readers.setdefault(node.input[1], []).append(node)
    return [
        _layer(name, f"{place}. {nodes[0].op_type} {'x'.join(map(str, dims[name]))}", nodes)
        for place, (name, nodes) in enumerate(readers.items(), 1)
    ]


def grams(model: onnx.ModelProto, found: Iterable[Layer], batches: Callable[[], Iterable[Values]]) -> dict[str, Gram]:
    """(groups, inputs, inputs): by weight, the layer's inputs' products with one another, a mean over what it read.

    The squared error of a layer's output for weights that are off by `d` (outputs, inputs) is the trace of d gram d'.

    Raises:
        ValueError: an input is not finite, or a convolution pads by itself.
    """
    wanted = list(found)
    totals: dict[str, Any] = {layer.weight: 0.0 for layer in wanted}
    counts = dict.fromkeys(totals, 0)
    shapes = {item.name: tuple(item.dims) for item in model.graph.initializer}
    names = list(dict.fromkeys(node.input[0] for layer in wanted for node in layer.nodes))
    for values in inner_values(model, names, batches()):
        for layer in wanted:
            for node in layer.nodes:
                columns = _columns(node, values[node.input[0]], shapes[layer.weight], layer.groups)
                totals[layer.weight] = totals[layer.weight] + columns.swapaxes(1, 2) @ columns
                counts[layer.weight] += columns.shape[1]
    for layer in wanted:
        if not np.isfinite(totals[layer.weight]).all():
            raise ValueError(f"quantize.rounding: the input of {layer.title} is not finite on the calibration samples")
    return {name: np.asarray(total, np.float64) / counts[name] for name, total in totals.items()}


def output_error(off: Values, gram: Gram) -> float:
    """Mean squared error of the layer's outputs, summed over them, of weights that are `off` (outputs, inputs)."""
    parts = np.split(off.astype(np.float64), len(gram))
    return float(
        sum(np.einsum("oi,ij,oj->", part, own, part, optimize=True) for part, own in zip(parts, gram, strict=True))
    )


def steps_of(rows: Values, largest: int) -> Values:
    """(outputs, 1): distance of the levels of each output, whose largest weight lies on level `largest`."""
    step: Values = np.maximum(np.abs(rows).max(1, keepdims=True), 1e-12) / largest
    return step


def nearest(rows: Values, largest: int) -> Values:
    """(outputs, inputs), each weight on the nearest level of its output."""
    step = steps_of(rows, largest)
    values: Values = (np.rint(rows / step) * step).astype(np.float32)
    return values


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Those that the node names."""
    return {item.name: helper.get_attribute_value(item) for item in node.attribute}


def own(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, onnx.TensorProto]]:
    """A copy, and its constants by name."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    return made, {item.name: item for item in made.graph.initializer}


def unshared(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with a constant of its own wherever a node reads one that others read too: files merge equal ones."""
    made, constants = own(model)
    seen = constants.keys() & {name for node in made.graph.node for name in captured(node)}
    for node in made.graph.node:
        for place, name in enumerate(node.input):
            if name in seen:
                node.input[place] = f"{name}.{node.output[0]}.{place}"
                single = made.graph.initializer.add()
                single.CopyFrom(constants[name])
                single.name = node.input[place]
            elif name in constants:
                seen.add(name)
    return made


def replace_(constant: onnx.TensorProto, values: npt.NDArray[Any]) -> None:
    """Put `values` in the place of a constant's, in its type."""
    dtype = helper.tensor_dtype_to_np_dtype(constant.data_type)
    constant.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values, dtype), constant.name))


def _layer(name: str, title: str, nodes: list[onnx.NodeProto]) -> Layer:
    knobs = attributes(nodes[0])
    upright = nodes[0].op_type == "MatMul" or (nodes[0].op_type == "Gemm" and not knobs.get("transB"))
    return Layer(name, title, tuple(nodes), upright, knobs.get("group", 1))


def _columns(node: onnx.NodeProto, values: Values, shape: tuple[int, ...], groups: int) -> Values:
    """(groups, places, inputs): what each row of the weight is multiplied with."""
    if node.op_type != "Conv":
        return values.reshape(1, -1, values.shape[-1])
    knobs, kernel = attributes(node), shape[2:]
    if knobs.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise ValueError("quantize.rounding: a Conv with auto_pad cannot be observed; rtn or hqq would do")
    pads, ones = knobs.get("pads", [0] * 2 * len(kernel)), [1] * len(kernel)
    edges = [(0, 0), (0, 0), *zip(pads[: len(kernel)], pads[len(kernel) :], strict=True)]
    cut = patches(np.pad(values, edges), kernel, knobs.get("strides", ones), knobs.get("dilations", ones))
    channels_first = np.moveaxis(cut, -1, 1 + len(kernel))
    return channels_first.reshape(-1, groups, int(np.prod(shape[1:]))).swapaxes(0, 1)
