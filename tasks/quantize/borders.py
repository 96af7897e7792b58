"""The way into integers and out of them: raw values become levels at once, and the last product gives floats."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from tasks.measure.nested import reads
from tasks.quantize.qdq import Constants, constants


def fold_normalisation_(model: onnx.ModelProto) -> None:
    """Take (x - mean) * factor, each one number, off the front of a graph whose next step is to quantize it.

    QuantizeLinear gets the step and zero point of raw values; DequantizeLinear keeps those of normalised ones, so that
    the zero of a padding stays a level. Left as it is: numbers that differ from channel to channel, a factor that is
    not positive, and raw values so far from zero that their zero is no level.
    """
    graph = model.graph
    held = constants(graph)
    chain = _chain(graph, held)
    if not chain:
        return
    subtract, multiply, quantize, _ = chain
    mean, factor = (held[node.input[1]].ravel()[0] for node in (subtract, multiply))
    step, zero = (held[name] for name in quantize.input[1:3])
    raw_step = np.float32(step / factor)
    raw_zero = round(float(zero) - float(mean / raw_step))
    if not np.iinfo(zero.dtype).min <= raw_zero <= np.iinfo(zero.dtype).max:
        return
    x = graph.input[0].name
    graph.initializer.append(numpy_helper.from_array(raw_step, f"{x}.step"))
    graph.initializer.append(numpy_helper.from_array(np.array(raw_zero, zero.dtype), f"{x}.zero"))
    quantize.input[:] = [x, f"{x}.step", f"{x}.zero"]
    for node in (subtract, multiply):
        graph.node.remove(node)
    _drop_unread_(graph)


def leave_logits_(model: onnx.ModelProto) -> None:
    """Take the rounding off what the graph's last Gemm gives: its kernel has the sums, and can give them as floats."""
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output}
    chain = [makers.get(graph.output[0].name)]
    while chain[-1] is not None and len(chain) < 3:
        chain.append(makers.get(chain[-1].input[0]))
    back, levels, product = chain if len(chain) == 3 else (None, None, None)
    if back is None or levels is None or product is None:
        return
    kinds = (back.op_type, levels.op_type, product.op_type)
    read = [name for node in graph.node for name in reads(node)]
    if kinds == ("DequantizeLinear", "QuantizeLinear", "Gemm") and read.count(product.output[0]) == 1:
        product.output[0] = graph.output[0].name
        for node in (back, levels):
            graph.node.remove(node)
        _drop_unread_(graph)


def _chain(graph: onnx.GraphProto, held: Constants) -> list[onnx.NodeProto]:
    """The four nodes, if the graph begins with them and each is read by the next alone."""
    name, chain = graph.input[0].name, list[onnx.NodeProto]()
    for kind in ("Sub", "Mul", "QuantizeLinear", "DequantizeLinear"):
        readers = [node for node in graph.node if name in reads(node)]
        if len(readers) != 1 or readers[0].op_type != kind or readers[0].input[0] != name:
            return []
        chain.append(readers[0])
        name = readers[0].output[0]
    mean, factor, step = (held.get(node.input[1], np.empty(0)) for node in chain[:3])
    single = len(np.unique(mean)) == len(np.unique(factor)) == 1 and step.ndim == 0
    return chain if single and factor.min() > 0 else []


def _drop_unread_(graph: onnx.GraphProto) -> None:
    read = {name for node in graph.node for name in reads(node)}
    for item in [item for item in graph.initializer if item.name not in read]:
        graph.initializer.remove(item)
