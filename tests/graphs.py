"""Small ONNX graphs, written by hand: nothing is traced, so they take no time."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def graph(nodes, constants=(), shape=(1, 8, 8), outputs=("logits",)):
    """A checked model from x (batch, *shape) with inferred shapes; constants: (name, array) pairs."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *shape])
    ends = [onnx.ValueInfoProto(name=name) for name in outputs]
    for end in ends:
        end.type.tensor_type.elem_type = TensorProto.FLOAT
    stored = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants]
    made = helper.make_model(
        helper.make_graph(nodes, "toy", [x], ends, stored), opset_imports=[helper.make_opsetid("", 20)], ir_version=10
    )
    return onnx.shape_inference.infer_shapes(made, strict_mode=True, data_prop=True)


def conv_net(channels=(6, 8), classes=3, seed=0, spread=1.0):
    """Two convolutions with ReLU, a mean over the picture and a product; for (batch, 1, 8, 8).

    spread: by how much the first layer's channels differ in scale; 1: not at all.
    """
    rng = np.random.default_rng(seed)
    first, second = channels
    scales = np.geomspace(1, spread, first).reshape(-1, 1, 1, 1)
    constants = {
        "conv1.weight": scales * rng.standard_normal((first, 1, 3, 3)) / 3,
        "conv1.bias": scales.ravel() * rng.standard_normal(first) / 3,
        "conv2.weight": rng.standard_normal((second, first, 3, 3)) / np.sqrt(9 * first) / scales.reshape(1, -1, 1, 1),
        "conv2.bias": rng.standard_normal(second) / 3,
        "head.weight": rng.standard_normal((classes, second)) / np.sqrt(second),
        "head.bias": rng.standard_normal(classes) / 3,
    }
    nodes = [
        helper.make_node("Conv", ["x", "conv1.weight", "conv1.bias"], ["conv1"], "conv1", pads=[1] * 4),
        helper.make_node("Relu", ["conv1"], ["relu1"], "relu1"),
        helper.make_node("Conv", ["relu1", "conv2.weight", "conv2.bias"], ["conv2"], "conv2", strides=[2, 2]),
        helper.make_node("Relu", ["conv2"], ["relu2"], "relu2"),
        helper.make_node("GlobalAveragePool", ["relu2"], ["pool"], "pool"),
        helper.make_node("Flatten", ["pool"], ["flat"], "flat"),
        helper.make_node("Gemm", ["flat", "head.weight", "head.bias"], ["logits"], "head", transB=1),
    ]
    return graph(nodes, [(name, array.astype(np.float32)) for name, array in constants.items()])


def inputs(count=64, shape=(1, 8, 8), seed=1):
    return np.random.default_rng(seed).standard_normal((count, *shape)).astype(np.float32)


def answers(model, x, tmp_path):
    """What the file gives for x when it is served."""
    from tasks.measure.runtime import open_session

    path = tmp_path / "answers.onnx"
    onnx.save(model, path)
    return open_session(path).run(None, {"x": x})[0]
