import numpy as np
import onnx
import pytest
from branches import branching
from graphs import graph, inputs
from learning import int8
from onnx import helper

from tasks.measure.floats import float_operations
from tasks.quantize.schemes import SCHEMES

WEIGHT = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)


def linear():
    return graph([helper.make_node("Gemm", ["x", "w"], ["logits"], "head")], [("w", WEIGHT)], (4,))


def found(model, tmp_path):
    onnx.save(model, tmp_path / "model.onnx")
    return float_operations(tmp_path / "model.onnx")


def test_a_product_that_quantizes_its_input_at_each_call_takes_and_gives_floats(tmp_path):
    made, _ = SCHEMES["int8_dynamic"](linear(), None, None, 0)
    assert found(made, tmp_path) == ["DynamicQuantizeMatMul"]
    assert found(int8(linear(), inputs(30, (4,))), tmp_path) == []  # with ranges from calibration


def test_dynamic_quantization_that_the_runtime_leaves_apart_counts_too(tmp_path):
    """Two products of one input: one node finds its range, and what it gives is scaled by floats behind each."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "a"),
        helper.make_node("MatMul", ["x", "v"], ["b"], "b"),
        helper.make_node("Add", ["a", "b"], ["logits"], "sum"),
    ]
    model = graph(nodes, [("w", WEIGHT), ("v", WEIGHT[::-1].copy())], (4,))
    made, _ = SCHEMES["int8_dynamic"](model, None, None, 0)
    assert {"DynamicQuantizeLinear", "Mul", "Add"} <= set(found(made, tmp_path))


@pytest.mark.parametrize("kind", ["Softplus", "Tanh"])
def test_operations_in_a_branch_count(kind, tmp_path):
    assert kind in found(branching(), tmp_path)
    assert kind in found(int8(branching(), inputs(30, (4,))), tmp_path)
