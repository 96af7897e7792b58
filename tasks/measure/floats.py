"""Which operations of a file touch floating-point numbers, read off the graph that ONNX Runtime really runs."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import onnx
import onnxruntime

from tasks.measure.integers import INTEGER
from tasks.measure.nested import bodies, everywhere
from tasks.measure.runtime import open_session

# the way into integers and out of them
BORDERS: Final = frozenset({"QuantizeLinear", "DequantizeLinear"})
# they take floats, which they quantize at each call, or compute a softmax in floats between their products
MIXED: Final = frozenset({"DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "QAttention"})


def float_operations(path: Path) -> list[str]:
    """Kinds of operations with a float among what they read or make, each once, in the order of the graph.

    The quantization of the input and the dequantization of the logits do not count, and so not the floats that an
    integer kernel gives as the graph's output; what lies between does, in bodies of branches and loops too, and
    whatever is done to the input before. Dynamic quantization finds its ranges in floats, and counts.
    """
    with TemporaryDirectory() as folder:
        optimised = Path(folder) / "optimised.onnx"
        open_session(path, optimised=optimised)
        model = onnx.load(optimised)
    floats, ends = _float_tensors(model), {value.name for value in model.graph.output}
    return list(
        dict.fromkeys(
            node.op_type
            for node, _ in everywhere(model.graph)
            if node.op_type not in BORDERS and floats.intersection([*_operands(node), *_made(node, ends)])
        )
    )


def _operands(node: onnx.NodeProto) -> list[str]:
    """What the node computes with; scales of integer kernels are floats, and no operands."""
    return [] if _is_integer(node) else list(node.input)


def _made(node: onnx.NodeProto, ends: set[str]) -> list[str]:
    return [name for name in node.output if not (_is_integer(node) and name in ends)]


def _is_integer(node: onnx.NodeProto) -> bool:
    return node.op_type in INTEGER - MIXED or node.op_type.startswith("QLinear")


def _float_tensors(model: onnx.ModelProto) -> set[str]:
    """Names of all tensors of floats, by the types that ONNX Runtime itself gives them."""
    typed = onnx.ModelProto()
    typed.CopyFrom(model)
    known = {value.name for value in model.graph.output}
    made = [name for node in model.graph.node for name in node.output if name and name not in known]
    typed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in made)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(typed.SerializeToString(), options, providers=["CPUExecutionProvider"])
    values = [*session.get_inputs(), *session.get_outputs()]
    inner = [body for node, _ in everywhere(model.graph) for body in bodies(node)]
    # a session tells no types of what a body holds, but the file that it wrote does
    told = [value for body in inner for value in (*body.input, *body.output, *body.value_info)]
    constants = [item for graph in (model.graph, *inner) for item in graph.initializer]
    return (
        {value.name for value in values if value.type in FLOAT_TYPES}
        | {value.name for value in told if value.type.tensor_type.elem_type in FLOATS}
        | {item.name for item in constants if item.data_type in FLOATS}
    )


FLOATS: Final = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE)
FLOAT_TYPES: Final = ("tensor(float)", "tensor(float16)", "tensor(bfloat16)", "tensor(double)")
