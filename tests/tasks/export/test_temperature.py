import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from tasks.export.slim import slim
from tasks.export.temperature import scale_logits_


def graph(output="logits"):
    """x @ w, whose output is read once more inside."""
    weight = numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(2, 3), "temperature")
    nodes = [helper.make_node("MatMul", ["x", "temperature"], ["h"]), helper.make_node("Tanh", ["h"], [output])]
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", size])
        for name, size in (("x", 2), (output, 3))
    ]
    made = helper.make_graph(nodes, "g", ends[:1], ends[1:], [weight])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def answers(model):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"x": np.array([[0.1, -0.2], [0.3, 0.05]], np.float32)})[0]


def test_the_files_logits_are_divided_and_keep_their_name_and_order():
    before, model = answers(graph()), graph()
    scale_logits_(model, 2.5)
    onnx.checker.check_model(model, full_check=True)
    for found in (answers(model), answers(slim(model))):
        np.testing.assert_allclose(found, before / 2.5, rtol=1e-6)
        assert (found.argmax(1) == before.argmax(1)).all()


def test_a_graph_without_logits_is_refused():
    with pytest.raises(ValueError, match="no node that makes 'logits'"):
        scale_logits_(graph("other"), 2.0)
