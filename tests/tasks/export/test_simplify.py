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
