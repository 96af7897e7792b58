"""Which convolutions and matrix products a file runs in integers, read off the graph that ONNX Runtime really runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Literal

import onnx

from tasks.measure.nested import everywhere, reads
from tasks.measure.runtime import open_session

# fmt: off
INTEGER: Final = frozenset({
    "QLinearConv", "ConvInteger", "QLinearMatMul", "MatMulInteger", "MatMulIntegerToFloat", "MatMulInteger16",
    "QGemm", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "QAttention",
})
CONVERTIBLE: Final = frozenset({
    "Conv", "FusedConv", "NhwcFusedConv", "MatMul", "FusedMatMul", "TransposeMatMul", "Gemm", "FusedGemm",
})
FLOAT: Final = CONVERTIBLE | {
    "ConvTranspose", "GemmFloat8", "MatMulNBits", "Einsum", "LSTM", "GRU", "RNN", "Attention", "MultiHeadAttention",
    "GroupQueryAttention",
}
# fmt: on


@dataclass(frozen=True)
class Operation:
    """One convolution or matrix product of the optimised graph; name: its kind, its place among all and its weight."""

    name: str
    arithmetic: Literal["integer", "float"]
    reason: str


def operations(path: Path) -> list[Operation]:
    """Every convolution and matrix product of the file, after the same optimisation as when it is served.

    Those in the bodies of branches and loops stand behind the node that holds them.
    """
    with TemporaryDirectory() as folder:
        optimised = Path(folder) / "optimised.onnx"
        open_session(path, optimised=optimised)
        graph = onnx.load(optimised).graph
    heavy = [(node, around) for node, around in everywhere(graph) if node.op_type in INTEGER | FLOAT]
    found = []
    for place, (node, around) in enumerate(heavy, 1):
        held = [item for scope in around for item in scope.initializer]
        shapes = {item.name: "x".join(map(str, item.dims)) for item in held if len(item.dims) > 1}
        weight = next((shapes[name] for name in node.input if name in shapes), "")
        name = " ".join(part for part in (f"{place}.", node.op_type, weight) if part)
        if node.op_type in INTEGER:
            found.append(Operation(name, "integer", "8-bit kernel"))
        else:
            found.append(Operation(name, "float", _reason(node, around)))
    return found


def integer_op_share(found: Sequence[Operation]) -> float:
    """Of all convolutions and matrix products; 1 where there are none, as nothing is left in float."""
    return sum(operation.arithmetic == "integer" for operation in found) / len(found) if found else 1.0


def _reason(node: onnx.NodeProto, around: Sequence[onnx.GraphProto]) -> str:
    """What keeps the runtime from joining the operation with the (de)quantization around it.

    around: the graphs it lies in, innermost last.
    """
    if node.op_type not in CONVERTIBLE:
        return f"ONNX Runtime has no 8-bit kernel for {node.op_type} on the CPU"
    makers = {output: other.op_type for graph in around for other in graph.node for output in other.output}
    constants = {item.name for graph in around for item in graph.initializer}
    for position, name in enumerate(node.input[:2]):
        if makers.get(name) != "DequantizeLinear":
            what = "its weight" if name in constants else "an input" if position else "its input"
            return f"{what} is not quantized"
    readers = [other.op_type for other in around[-1].node if node.output[0] in reads(other)]
    if readers != ["QuantizeLinear"]:
        return "its output goes on in float" + (f", to {', '.join(sorted(set(readers)))}" if readers else "")
    return "the runtime has no 8-bit kernel for these types of input and weight"
