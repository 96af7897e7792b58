"""NVIDIA's explicit scheme: no zero points, and Quantize/DequantizeLinear only where TensorRT fuses them.

Whole numbers or floats of 8 bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import onnx
from ml_dtypes import float8_e4m3fn
from onnx import helper, numpy_helper

from tasks.measure.nested import reads
from tasks.quantize.calibration import Range
from tasks.quantize.layers import HEAVY, layers, own

LARGEST: Final = 127
Levels = Literal["int8", "fp8"]
# what a level can be at most, and the type that stores it; 448 is the largest number of e4m3
FORMATS: Final[Mapping[Levels, tuple[int, Any]]] = {"int8": (LARGEST, np.int8), "fp8": (448, float8_e4m3fn)}


def quantize_symmetric(model: onnx.ModelProto, ranges: Mapping[str, Range], levels: Levels = "int8") -> onnx.ModelProto:
    """The model with 8-bit inputs and weights of convolutions and products, and the skip input of sums behind them.

    Weights lie per output channel, activations per tensor, both in [-127, 127] times a scale, or up to 448 in e4m3;
    outputs and biases stay in float. ranges: low and high of each float tensor, of which the larger side counts; a
    tensor without one stays.

    NVIDIA, TensorRT developer guide, "Working with quantized types", explicit quantization; Micikevicius et al. 2022,
    arXiv:2209.05433, for e4m3.
    """
    made, constants = own(model)
    graph = made.graph
    fed = [(node, place) for node in graph.node for place in _places(node, graph)]
    pairs: dict[str, list[onnx.NodeProto]] = {}
    for layer in layers(graph):
        axis = len(constants[layer.weight].dims) - 1 if layer.upright else 0
        pairs[layer.weight] = [_weight_(graph, constants[layer.weight], axis, levels)]
    for node, place in fed:
        name = node.input[place]
        if name in ranges and name not in pairs:
            pairs[name] = _activation_(graph, name, max(-ranges[name][0], ranges[name][1]), levels)
    for node, place in fed:
        if node.input[place] in pairs:
            node.input[place] = pairs[node.input[place]][-1].output[0]
    outputs = {name for node in graph.node for name in node.output}
    nodes = [item for name, pair in pairs.items() if name not in outputs for item in pair]
    for node in graph.node:
        nodes += [node, *(item for name in node.output for item in pairs.get(name, ()))]
    del graph.node[:]
    graph.node.extend(nodes)
    if levels == "fp8":
        _spell_out_relu_(graph)
    for layer_weight in set(pairs) & constants.keys() - {name for node in graph.node for name in reads(node)}:
        graph.initializer.remove(constants[layer_weight])
    return made


def _places(node: onnx.NodeProto, graph: onnx.GraphProto) -> list[int]:
    """Which inputs of the node are quantized."""
    if node.op_type in HEAVY:
        return [0, 1]
    skip = _skip(node, graph) if node.op_type == "Add" else None
    return [] if skip is None else [skip]


def _skip(node: onnx.NodeProto, graph: onnx.GraphProto) -> int | None:
    """The place of the skip input of a sum: the one with fewer convolutions and products behind it.

    None where no input comes straight from such an operation: TensorRT then has nothing to fuse the sum with.
    """
    makers = {name: other for other in graph.node for name in other.output}
    constants = {item.name for item in graph.initializer}
    if constants & {*node.input} or not any(_is_heavy(name, makers, constants) for name in node.input):
        return None
    depths = [len(_heavy_before(name, makers)) for name in node.input]
    return 0 if depths[0] < depths[1] else 1


def _is_heavy(name: str, makers: Mapping[str, onnx.NodeProto], constants: set[str]) -> bool:
    """Whether a convolution or product makes it, a bias that is added to it aside."""
    maker = makers.get(name)
    if maker is not None and maker.op_type == "Add" and constants & {*maker.input}:
        maker = next((makers[other] for other in maker.input if other in makers), None)
    return maker is not None and maker.op_type in HEAVY


def _heavy_before(name: str, makers: Mapping[str, onnx.NodeProto]) -> set[str]:
    """Names of the outputs of all convolutions and products that the tensor hangs on."""
    found, seen, waiting = set(), set(), [name]
    while waiting:
        current = waiting.pop()
        if current in seen or current not in makers:
            continue
        seen.add(current)
        if makers[current].op_type in HEAVY:
            found.add(current)
        waiting += reads(makers[current])
    return found


def _weight_(graph: onnx.GraphProto, constant: onnx.TensorProto, axis: int, levels: Levels) -> onnx.NodeProto:
    """Add the weight in 8 bits to the graph, and return the node that makes it a float again."""
    weight, (largest, kind) = numpy_helper.to_array(constant), FORMATS[levels]
    others = tuple(other for other in range(weight.ndim) if other != axis)
    scale = (np.maximum(np.abs(weight).max(others, keepdims=True), 1e-12) / largest).astype(np.float32)
    level = np.clip(weight / scale, -largest, largest)
    level = (np.rint(level) if levels == "int8" else level).astype(kind)
    names = _store_(graph, constant.name, {"level": level, "scale": scale.ravel(), "zero": np.zeros(scale.size, kind)})
    return helper.make_node("DequantizeLinear", names, [f"{constant.name}.value"], axis=axis)


def _activation_(graph: onnx.GraphProto, name: str, furthest: float, levels: Levels) -> list[onnx.NodeProto]:
    """The nodes that round the tensor and make it a float again."""
    largest, kind = FORMATS[levels]
    knobs = _store_(graph, name, {"scale": np.array(furthest / largest, np.float32), "zero": np.array(0, kind)})
    return [
        helper.make_node("QuantizeLinear", [name, *knobs], [f"{name}.level"]),
        helper.make_node("DequantizeLinear", [f"{name}.level", *knobs], [f"{name}.value"]),
    ]


def _spell_out_relu_(graph: onnx.GraphProto) -> None:
    """ONNX Runtime 1.32 drops Relu in front of a QuantizeLinear, as though floats had no sign; Max it keeps."""
    zero = "relu.floor"
    for node in graph.node:
        if node.op_type == "Relu":
            node.op_type = "Max"
            node.input.append(zero)
    graph.initializer.append(numpy_helper.from_array(np.zeros((), np.float32), zero))


def _store_(graph: onnx.GraphProto, name: str, arrays: Mapping[str, npt.NDArray[Any]]) -> list[str]:
    graph.initializer.extend(numpy_helper.from_array(array, f"{name}.{part}") for part, array in arrays.items())
    return [f"{name}.{part}" for part in arrays]
