"""A temperature inside the file that ships, so that the probabilities made of its logits are calibrated."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

OUTPUT = "logits"


def scale_logits_(model: onnx.ModelProto, temperature: float) -> None:
    """Divide the graph's output by `temperature`, as its last step; the order of the logits stays.

    Logits that leave integers get another step instead, or their product's weight and bias do, so that nothing more is
    computed in float.

    Raises:
        ValueError: the graph has no output `logits` of a node of its own.
    """
    graph = model.graph
    makers = [node for node in graph.node if OUTPUT in node.output]
    if len(makers) != 1:
        raise ValueError(f"quantize.temperature: the graph has no node that makes '{OUTPUT}'")
    [maker], constants = makers, {item.name: item for item in graph.initializer}
    names = {name for node in graph.node for name in (*node.input, *node.output)} | {*constants}
    if steps := _steps(graph, maker, {*constants}):
        for node in steps:
            scaled = numpy_helper.to_array(constants[node.input[1]]) / np.float32(temperature)
            node.input[1] = _fresh("temperature", names)
            names.add(node.input[1])
            graph.initializer.append(numpy_helper.from_array(scaled, node.input[1]))
        return
    raw, divisor = (_fresh(name, names) for name in ("uncalibrated", "temperature"))
    for node in graph.node:
        for side in (node.input, node.output):
            side[:] = [raw if name == OUTPUT else name for name in side]
    graph.initializer.append(numpy_helper.from_array(np.float32(temperature), divisor))
    graph.node.append(helper.make_node("Div", [raw, divisor], [OUTPUT]))


def _steps(graph: onnx.GraphProto, maker: onnx.NodeProto, constants: set[str]) -> list[onnx.NodeProto]:
    """The nodes whose steps are a factor of the logits and of nothing else; none where there are no such."""
    read = [name for node in graph.node for name in node.input]
    makers = {name: node for node in graph.node for name in node.output}
    ends = [OUTPUT] if maker.op_type == "DequantizeLinear" else list(maker.input[1:])
    found = [makers.get(name) for name in ends]
    known = [node for node in found if node and node.op_type == "DequantizeLinear" and node.input[1] in constants]
    alone = OUTPUT not in read and (maker.op_type != "Gemm" or all(read.count(name) == 1 for name in ends))
    return known if alone and maker.op_type in ("DequantizeLinear", "Gemm") and len(known) == len(found) else []


def _fresh(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name
