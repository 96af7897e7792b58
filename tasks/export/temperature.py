"""A temperature inside the file that ships, so that the probabilities made of its logits are calibrated."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

OUTPUT = "logits"


def scale_logits_(model: onnx.ModelProto, temperature: float) -> None:
    """Divide the graph's output by `temperature`, as its last step; the order of the logits stays.

    Logits that leave integers get another step instead, so that nothing more is computed in float.

    Raises:
        ValueError: the graph has no output `logits` of a node of its own.
    """
    graph = model.graph
    makers = [node for node in graph.node if OUTPUT in node.output]
    if len(makers) != 1:
        raise ValueError(f"quantize.temperature: the graph has no node that makes '{OUTPUT}'")
    [maker], constants = makers, {item.name: item for item in graph.initializer}
    names = {name for node in graph.node for name in (*node.input, *node.output)} | {*constants}
    raw, divisor = (_fresh(name, names) for name in ("uncalibrated", "temperature"))
    read_inside = any(OUTPUT in node.input for node in graph.node)
    if maker.op_type == "DequantizeLinear" and maker.input[1] in constants and not read_inside:
        step = numpy_helper.to_array(constants[maker.input[1]]) / np.float32(temperature)
        graph.initializer.append(numpy_helper.from_array(step, divisor))
        maker.input[1] = divisor
        return
    for node in graph.node:
        for side in (node.input, node.output):
            side[:] = [raw if name == OUTPUT else name for name in side]
    graph.initializer.append(numpy_helper.from_array(np.float32(temperature), divisor))
    graph.node.append(helper.make_node("Div", [raw, divisor], [OUTPUT]))


def _fresh(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name
