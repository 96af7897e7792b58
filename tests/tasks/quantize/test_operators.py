"""Every operation against ONNX Runtime."""

import numpy as np
import onnxruntime
import pytest
import torch
from graphs import graph
from onnx import helper

from tasks.quantize.operators import OPERATORS

RNG = np.random.default_rng(0)
PICTURE, ROW, WIDE = (3, 8, 8), (6,), (4, 6)


def numbers(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def whole(*values):
    return np.array(values, np.int64)


# operation, knobs, shape of x without the batch, further inputs
CASES = [
    ("Conv", {"pads": [1, 0, 2, 1], "strides": [2, 1]}, PICTURE, [numbers(4, 3, 3, 3), numbers(4)]),
    ("Conv", {"pads": [2, 2, 2, 2], "dilations": [2, 2], "group": 3}, PICTURE, [numbers(6, 1, 3, 3)]),
    ("Conv", {"auto_pad": "VALID"}, (3, 9), [numbers(4, 3, 3), numbers(4)]),
    ("ConvTranspose", {"strides": [2, 2], "pads": [1] * 4, "output_padding": [1, 1]}, PICTURE, [numbers(3, 4, 3, 3)]),
    ("Gemm", {"transB": 1, "alpha": 0.5, "beta": 2.0}, ROW, [numbers(5, 6), numbers(5)]),
    ("Gemm", {}, ROW, [numbers(6, 5)]),
    ("MatMul", {}, WIDE, [numbers(6, 5)]),
    ("Add", {}, ROW, [numbers(6)]),
    ("Sub", {}, ROW, [numbers(6)]),
    ("Mul", {}, ROW, [numbers(6)]),
    ("Div", {}, ROW, [numbers(6)]),
    ("Pow", {}, ROW, [np.float32(2)]),
    ("Relu", {}, ROW, []),
    ("LeakyRelu", {"alpha": 0.3}, ROW, []),
    ("PRelu", {}, PICTURE, [numbers(3, 1, 1)]),
    ("Elu", {"alpha": 0.7}, ROW, []),
    ("Gelu", {}, ROW, []),
    ("Gelu", {"approximate": "tanh"}, ROW, []),
    ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}, ROW, []),
    ("HardSwish", {}, ROW, []),
    ("Sigmoid", {}, ROW, []),
    ("Tanh", {}, ROW, []),
    ("Erf", {}, ROW, []),
    ("Exp", {}, ROW, []),
    ("Reciprocal", {}, ROW, []),
    ("Neg", {}, ROW, []),
    ("Identity", {}, ROW, []),
    ("Clip", {}, ROW, [np.float32(-0.5), np.float32(0.5)]),
    ("Clip", {}, ROW, []),
    ("Softmax", {"axis": 1}, WIDE, []),
    ("BatchNormalization", {"epsilon": 0.1}, PICTURE, [numbers(3), numbers(3), numbers(3), np.abs(numbers(3))]),
    ("LayerNormalization", {"axis": -1}, WIDE, [numbers(6), numbers(6)]),
    ("LayerNormalization", {"axis": 1, "epsilon": 0.1}, WIDE, [numbers(4, 6)]),
    ("MaxPool", {"kernel_shape": [3, 3], "pads": [1, 1, 0, 1], "strides": [2, 2]}, PICTURE, []),
    ("MaxPool", {"kernel_shape": [2, 2]}, PICTURE, []),
    ("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}, PICTURE, []),
    ("GlobalAveragePool", {}, PICTURE, []),
    ("GlobalMaxPool", {}, PICTURE, []),
    ("ReduceMean", {"keepdims": 0}, PICTURE, [whole(2, 3)]),
    ("ReduceMean", {}, PICTURE, []),
    ("ReduceMean", {"noop_with_empty_axes": 1}, PICTURE, []),
    ("ReduceSum", {}, PICTURE, [whole(-1)]),
    ("ReduceMax", {"keepdims": 0}, PICTURE, [whole(2, 3)]),
    ("ReduceMin", {}, PICTURE, [whole(1)]),
    ("Flatten", {}, PICTURE, []),
    ("Flatten", {"axis": 2}, PICTURE, []),
    ("Reshape", {}, PICTURE, [whole(0, -1, 4)]),
    ("Transpose", {"perm": [0, 2, 1]}, WIDE, []),
    ("Transpose", {}, WIDE, []),
    ("Concat", {"axis": 1}, WIDE, [numbers(2, 4, 6)]),
    ("Slice", {}, PICTURE, [whole(1, -3), whole(3, 99), whole(1, 2), whole(1, 2)]),
    ("Split", {"axis": 1, "num_outputs": 2}, WIDE, []),
    ("Split", {"axis": 1}, WIDE, [whole(1, 3)]),
    ("Gather", {"axis": 1}, WIDE, [np.array([[0, -1], [2, 1]], np.int64)]),
    ("Gather", {"axis": 1}, WIDE, [np.array(2, np.int64)]),
    ("Squeeze", {}, (1, 5), [whole(1)]),
    ("Unsqueeze", {}, WIDE, [whole(0, 3)]),
    ("Expand", {}, (1, 6), [whole(2, 4, 6)]),
]  # fmt: skip


@pytest.mark.parametrize(("operation", "knobs", "shape", "further"), CASES)
def test_it_gives_what_the_runtime_gives(operation, knobs, shape, further):
    names = [f"c{place}" for place in range(len(further))]
    outputs = ["logits", "rest"] if operation == "Split" else ["logits"]
    node = helper.make_node(operation, ["x", *names], outputs, **knobs)
    model = graph([node], zip(names, further, strict=True), shape)
    x = numbers(2, *shape)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(["logits"], {"x": x})
    found = OPERATORS[operation](knobs, torch.tensor(x), *(torch.tensor(array) for array in further))
    found = found[0] if isinstance(found, tuple) else found
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=2e-6)


def test_every_operation_is_tried():
    tried = {case[0] for case in CASES}
    assert OPERATORS.keys() - tried == {"Shape", "Sqrt"}


def test_the_two_that_take_other_inputs():
    x = torch.tensor([[4.0, 9.0]])
    assert OPERATORS["Sqrt"]({}, x).tolist() == [[2, 3]]
    assert OPERATORS["Shape"]({}, x).tolist() == [1, 2]
    assert OPERATORS["Shape"]({"start": 1}, x).tolist() == [2]


def test_a_clip_with_one_end_leaves_the_other_open():
    assert OPERATORS["Clip"]({}, torch.tensor([-2.0, 2.0]), None, torch.tensor(1.0)).tolist() == [-2, 1]


@pytest.mark.parametrize(
    ("operation", "knobs"),
    [
        ("Conv", {"auto_pad": "SAME_UPPER"}),
        ("AveragePool", {"kernel_shape": [2, 2], "pads": [0, 0, 1, 1]}),
    ],
)
def test_padding_that_is_not_known_is_refused(operation, knobs):
    further = [torch.zeros(2, 3, 3, 3)] if operation == "Conv" else []
    with pytest.raises(ValueError, match=r"^cannot be trained: "):
        OPERATORS[operation](knobs, torch.zeros(1, 3, 8, 8), *further)
