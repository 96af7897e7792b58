import numpy as np
import onnx
import onnxruntime
import pytest
from graphs import conv_net, inputs
from onnx import helper, numpy_helper

from tasks.export.slim import slim
from tasks.export.temperature import scale_logits_
from tasks.measure.floats import float_operations
from tasks.measure.runtime import open_session
from tasks.quantize.calibration import observe
from tasks.quantize.int8 import quantize


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


def test_logits_that_leave_integers_are_divided_without_an_operation_in_float(tmp_path):
    source, x, path = conv_net(), inputs(), tmp_path / "model.onnx"
    ranges = {name: (found.low, found.high) for name, found in observe(source, lambda: iter([x])).items()}
    plain = quantize(source, ranges)
    scaled = onnx.ModelProto()
    scaled.CopyFrom(plain)
    scale_logits_(scaled, 2.5)
    onnx.checker.check_model(scaled, full_check=True)
    found = []
    for model in (plain, slim(scaled)):
        onnx.save(model, path)
        found.append((open_session(path).run(None, {"x": x})[0], float_operations(path)))
    np.testing.assert_allclose(found[1][0], found[0][0] / 2.5, rtol=1e-5)
    assert found[1][1] == found[0][1] and "Div" not in found[1][1]
