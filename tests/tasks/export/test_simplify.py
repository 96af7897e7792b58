import numpy as np
import onnx
import pytest
from graphs import answers, graph, inputs
from onnx import helper

from tasks.export.simplify import simplify

RNG = np.random.default_rng(0)
WEIGHT, BIAS = RNG.standard_normal((3, 64)).astype(np.float32), RNG.standard_normal(3).astype(np.float32)
GEMM = [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("Gemm", ["flat", "w", "b"], ["y"], transB=1)]


def scaled(*factor_first, factor=0.125, outputs=("logits",)):
    ends = ["k", "y"] if factor_first else ["y", "k"]
    nodes = [*GEMM, helper.make_node("Mul", ends, ["logits"])]
    return graph(nodes, [("w", WEIGHT), ("b", BIAS), ("k", np.asarray(factor, np.float32))], outputs=outputs)


def kinds(model):
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize("model", [scaled(), scaled(True), scaled(factor=[-3.0])], ids=["", "factor first", "vector"])
def test_a_factor_behind_a_product_joins_its_weight_and_bias(model, tmp_path):
    simple = simplify(model)
    onnx.checker.check_model(simple, full_check=True)
    assert kinds(simple) == ["Flatten", "Gemm"]
    assert np.allclose(answers(simple, inputs(), tmp_path), answers(model, inputs(), tmp_path), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "model", [scaled(factor=[1.0, 2.0, 3.0]), scaled(outputs=("logits", "y"))], ids=["by class", "read elsewhere"]
)
def test_a_factor_stays_where_it_differs_or_the_product_is_read_elsewhere(model, tmp_path):
    simple = simplify(model)
    assert kinds(simple) == ["Flatten", "Gemm", "Mul"]
    assert np.array_equal(answers(simple, inputs(), tmp_path), answers(model, inputs(), tmp_path))


@pytest.mark.parametrize(("kind", "pool"), [("ReduceMean", "GlobalAveragePool"), ("ReduceMax", "MaxPool")])
@pytest.mark.parametrize("axes", [[2, 3], [-1, -2]])
@pytest.mark.parametrize("keep", [0, 1])
def test_reductions_of_all_places_become_pooling(kind, pool, axes, keep, tmp_path):
    node = helper.make_node(kind, ["x", "axes"], ["logits"], keepdims=keep)
    model = graph([node], [("axes", np.array(axes))], shape=(5, 4, 6))
    simple = simplify(model)
    onnx.checker.check_model(simple, full_check=True)
    assert kinds(simple) == ([pool] if keep else [pool, "Flatten"])
    x = inputs(shape=(5, 4, 6))
    assert np.allclose(answers(simple, x, tmp_path), answers(model, x, tmp_path), atol=1e-6)


def test_a_mean_over_the_features_of_tokens_stays_as_it_may_be_part_of_a_norm():
    model = graph([helper.make_node("ReduceMean", ["x", "axes"], ["logits"])], [("axes", np.array([-1]))], shape=(4, 6))
    assert kinds(simplify(model)) == ["ReduceMean"]


def test_reductions_of_other_axes_stay():
    for axes in ([1], [3], [1, 2, 3]):
        model = graph([helper.make_node("ReduceMean", ["x", "axes"], ["logits"])], [("axes", np.array(axes))])
        assert kinds(simplify(model)) == ["ReduceMean"]


def pooled_twice(size, outputs=("logits",), **first):
    nodes = [
        helper.make_node("MaxPool", ["x"], ["m"], **first),
        helper.make_node("MaxPool", ["m"], ["logits"], kernel_shape=size),
    ]
    return graph(nodes, [], shape=(5, 7, 9), outputs=outputs)


@pytest.mark.parametrize(
    ("first", "size", "kernel"),
    [
        ({"kernel_shape": [2, 2], "strides": [2, 2]}, [3, 4], [6, 8]),
        ({"kernel_shape": [3, 3], "strides": [2, 2]}, [3, 4], [7, 9]),
        ({"kernel_shape": [3, 2]}, [5, 8], [7, 9]),
        ({"kernel_shape": [2, 2], "strides": [2, 2], "pads": [0, 0, 0, 0], "auto_pad": "NOTSET"}, [3, 4], [6, 8]),
    ],
)
def test_a_maximum_over_all_maxima_is_one_maximum(first, size, kernel, tmp_path):
    model = pooled_twice(size, **first)
    simple = simplify(model)
    onnx.checker.check_model(simple, full_check=True)
    assert kinds(simple) == ["MaxPool"]
    assert [*simple.graph.node[0].attribute[0].ints] == kernel
    x = inputs(shape=(5, 7, 9))
    assert np.array_equal(answers(simple, x, tmp_path), answers(model, x, tmp_path))


@pytest.mark.parametrize(
    ("first", "size", "outputs"),
    [
        ({"kernel_shape": [2, 2], "strides": [3, 3]}, [2, 3], ("logits",)),
        ({"kernel_shape": [2, 2], "strides": [2, 2], "pads": [1, 1, 0, 0]}, [4, 5], ("logits",)),
        ({"kernel_shape": [2, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"}, [4, 5], ("logits",)),
        ({"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}, [4, 5], ("logits",)),
        ({"kernel_shape": [2, 2], "strides": [1, 1], "dilations": [2, 2]}, [5, 7], ("logits",)),
        ({"kernel_shape": [2, 2], "strides": [2, 2]}, [2, 2], ("logits",)),
        ({"kernel_shape": [2, 2], "strides": [2, 2]}, [3, 4], ("logits", "m")),
    ],
    ids=["gaps", "padded", "padded alike", "rounded up", "dilated", "not over all", "read elsewhere"],
)
def test_other_poolings_stay_two(first, size, outputs, tmp_path):
    model = pooled_twice(size, outputs, **first)
    simple = simplify(model)
    assert kinds(simple) == ["MaxPool", "MaxPool"]
    x = inputs(shape=(5, 7, 9))
    assert np.array_equal(answers(simple, x, tmp_path), answers(model, x, tmp_path))


def test_a_pooling_before_a_reduction_of_all_places_is_one_with_it(tmp_path):
    nodes = [
        helper.make_node("MaxPool", ["x"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("ReduceMax", ["m", "axes"], ["logits"], keepdims=0),
    ]
    model = graph(nodes, [("axes", np.array([2, 3]))], shape=(5, 7, 9))
    assert kinds(simplify(model)) == ["MaxPool", "Flatten"]
