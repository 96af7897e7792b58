"""How the processor that runs these tests adds up products of bytes."""

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from tasks.quantize.products import Arithmetic


def arithmetic() -> Arithmetic:
    """Found out by four products, of which two alone exceed 16 bits."""
    ends = [
        [helper.make_tensor_value_info(name, kind, [1, width])]
        for name, kind, width in [("x", TensorProto.UINT8, 4), ("sum", TensorProto.INT32, 1)]
    ]
    weights = numpy_helper.from_array(np.full((4, 1), 127, np.int8), "w")
    graph = helper.make_graph([helper.make_node("MatMulInteger", ["x", "w"], ["sum"])], "four", *ends, [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    total = int(session.run(None, {"x": np.full((1, 4), 255, np.uint8)})[0].item())
    return {4 * 255 * 127: "s8s8", 2 * 32767: "u8s8_saturating"}[total]


HERE = arithmetic()
