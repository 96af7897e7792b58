import numpy as np
import pytest
import torch
from branches import branching
from graphs import conv_net, graph, inputs
from onnx import helper, numpy_helper
from torch.nn import functional as F

from tasks.quantize.inner import inner_values
from tasks.quantize.layers import grams, layers, output_error, unshared

RNG = np.random.default_rng(0)
WEIGHT = RNG.standard_normal((6, 2, 3, 2)).astype(np.float32)
KNOBS = {"group": 2, "strides": [2, 1], "dilations": [1, 2], "pads": [1, 0, 2, 1]}


def observed(model, *batches):
    return grams(model, layers(model.graph), lambda: iter(batches))


def convolution(x, weight):
    padded = F.pad(torch.from_numpy(x), (0, 1, 1, 2))
    return F.conv2d(padded, torch.from_numpy(weight), stride=(2, 1), dilation=(1, 2), groups=2).numpy()


def test_output_error_is_that_of_the_convolution_itself():
    """Groups, uneven strides, dilations and pads, over two batches."""
    node = helper.make_node("Conv", ["x", "w"], ["c"], **KNOBS)
    model = graph([node, helper.make_node("GlobalAveragePool", ["c"], ["logits"])], [("w", WEIGHT)], (4, 9, 7))
    x = inputs(10, (4, 9, 7))
    (layer,), found = layers(model.graph), observed(model, x[:6], x[6:])
    off = np.random.default_rng(1).standard_normal(WEIGHT.shape).astype(np.float32)
    wanted = np.square(convolution(x, off)).mean((0, 2, 3)).sum()
    assert output_error(layer.rows(off), found["w"]) == pytest.approx(wanted, rel=1e-4)
    assert found["w"].shape == (2, 12, 12)


@pytest.mark.parametrize(("operator", "knobs"), [("MatMul", {}), ("Gemm", {}), ("Gemm", {"transB": 1})])
def test_output_error_is_that_of_the_product_itself(operator, knobs):
    weight, x = RNG.standard_normal((5, 3)).astype(np.float32), inputs(20, (5,))
    stored = weight.T if knobs else weight
    model = graph([helper.make_node(operator, ["x", "w"], ["logits"], **knobs)], [("w", stored)], (5,))
    (layer,) = layers(model.graph)
    assert output_error(layer.rows(stored), observed(model, x)["w"]) == pytest.approx(
        np.square(x @ weight).mean(0).sum(), rel=1e-4
    )
    assert np.array_equal(layer.stored(layer.rows(stored), stored.shape), stored)


def test_layers_are_those_with_constant_weights_and_are_named_for_people():
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("MatMul", ["a", "a"], ["b"]),
        helper.make_node("MatMul", ["b", "w"], ["logits"]),
    ]
    (layer,) = layers(graph(nodes, [("w", np.eye(3, dtype=np.float32))], (3, 3)).graph)
    assert layer.title == "1. MatMul 3x3" and [node.output[0] for node in layer.nodes] == ["a", "logits"]
    assert [layer.title for layer in layers(conv_net().graph)] == ["1. Conv 6x1x3x3", "2. Conv 8x6x3x3", "3. Gemm 3x8"]


def test_samples_that_are_not_finite_are_refused_by_the_layer_s_name():
    x = inputs(4)
    x[1, 0, 2, 3] = np.nan
    with pytest.raises(ValueError, match=r"^quantize\.rounding: the input of 1\. Conv 6x1x3x3 is not finite"):
        observed(conv_net(), x)


def test_padding_that_the_node_finds_out_itself_is_refused():
    node = helper.make_node("Conv", ["x", "w"], ["logits"], auto_pad="SAME_UPPER")
    with pytest.raises(ValueError, match=r"^quantize\.rounding: a Conv with auto_pad cannot be observed"):
        observed(graph([node], [("w", WEIGHT[:, :1])], (1, 9, 7)), inputs(2, (1, 9, 7)))


def test_inner_values_are_seen_unfused_and_the_input_too():
    x = inputs(3)
    (found,) = inner_values(conv_net(), ["relu1", "x", "conv1"], iter([x]))
    assert list(found) == ["relu1", "x", "conv1"] and found["x"] is x
    assert found["conv1"].min() < 0 and np.array_equal(found["relu1"], np.maximum(found["conv1"], 0))
    weights = {item.name: numpy_helper.to_array(item).copy() for item in conv_net().graph.initializer}
    wanted = F.conv2d(*(torch.from_numpy(a) for a in (x, weights["conv1.weight"], weights["conv1.bias"])), padding=1)
    np.testing.assert_allclose(found["conv1"], wanted.numpy(), atol=1e-5)


def test_a_weight_that_a_branch_reads_too_is_no_layer_s_own():
    model = branching()
    model.graph.node[-1].input[1] = "inner"
    made = unshared(model)
    assert made.graph.node[-1].input[1] != "inner" and made.graph.node[0].input[1] == "first"
    assert {"inner", made.graph.node[-1].input[1]} <= {item.name for item in made.graph.initializer}
