import numpy as np
import onnx
import pytest
from branches import branching
from graphs import answers, conv_net, graph, inputs
from onnx import helper, numpy_helper

from tasks.quantize.calibration import min_max, observe
from tasks.quantize.symmetric import quantize_symmetric


def made(model, x):
    ranges = {name: min_max(seen) for name, seen in observe(model, lambda: iter([x])).items()}
    return quantize_symmetric(model, ranges)


def is_quantized(model):
    """By name of node: which of its inputs come out of DequantizeLinear."""
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    return {
        node.name: [place for place, name in enumerate(node.input) if makers.get(name) == "DequantizeLinear"]
        for node in model.graph.node
        if node.name
    }


def square(seed):
    return np.random.default_rng(seed).standard_normal((4, 4, 3, 3)).astype(np.float32) / 6


def residual(shortcut):
    """relu(conv(relu(conv(x))) + x), the shortcut through a convolution of its own or not, and a mean."""
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], "c1", pads=[1] * 4),
        helper.make_node("Relu", ["c1"], ["r1"], "r1"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], "c2", pads=[1] * 4),
        *([helper.make_node("Conv", ["x", "w3"], ["c3"], "c3", pads=[1] * 4)] * shortcut),
        helper.make_node("Add", ["c2", "c3" if shortcut else "x"], ["sum"], "sum"),
        helper.make_node("Relu", ["sum"], ["r2"], "r2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["pool"], "pool"),
        helper.make_node("Flatten", ["pool"], ["logits"], "flat"),
    ]
    names = ["w1", "w2", "w3"][: 2 + shortcut]
    return graph(nodes, [(name, square(seed)) for seed, name in enumerate(names)], (4, 6, 6))


@pytest.mark.parametrize("shortcut", [False, True])
def test_inputs_of_convolutions_and_the_skip_input_of_sums_are_quantized_and_nothing_else(shortcut):
    found = is_quantized(made(residual(shortcut), inputs(20, (4, 6, 6))))
    convolutions = ["c1", "c2", "c3"][: 2 + shortcut]
    quantized = {"sum": [1]} | {name: [0, 1] for name in convolutions}
    assert found == {name: quantized.get(name, []) for name in found} and quantized.keys() < found.keys()


def test_the_skip_input_is_found_on_either_side():
    model = residual(True)
    model.graph.node[4].input[:] = ["c3", "c2"]
    assert is_quantized(made(model, inputs(20, (4, 6, 6))))["sum"] == [0]


def test_sums_with_a_bias_or_without_a_convolution_before_them_stay_in_float():
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"], "m"),
        helper.make_node("Add", ["m", "b"], ["biased"], "bias"),
        helper.make_node("Relu", ["biased"], ["r"], "r"),
        helper.make_node("Add", ["r", "x"], ["logits"], "plain"),
    ]
    model = graph(nodes, [("w", np.eye(4, dtype=np.float32)), ("b", np.ones(4, np.float32))], (4,))
    assert is_quantized(made(model, inputs(20, (4,)))) == {"m": [0, 1], "bias": [], "r": [], "plain": []}


def test_both_inputs_of_a_product_of_activations_are_quantized():
    nodes = [helper.make_node("Relu", ["x"], ["r"], "r"), helper.make_node("MatMul", ["x", "r"], ["logits"], "m")]
    assert is_quantized(made(graph(nodes, shape=(4, 4)), inputs(20, (4, 4))))["m"] == [0, 1]


def test_no_zero_point_and_scales_that_cover_the_larger_side():
    model = made(conv_net(), np.concatenate([inputs(20), np.full((1, 1, 8, 8), -5, np.float32)]))
    stored = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    zeros = [stored[node.input[2]] for node in model.graph.node if "QuantizeLinear" in node.op_type]
    zeros += [stored[node.input[2]] for node in model.graph.node if "DequantizeLinear" in node.op_type]
    assert len(zeros) == 9 and all(zero.dtype == np.int8 and not zero.any() for zero in zeros)
    assert stored["x.scale"] == pytest.approx(5 / 127)
    assert stored["conv2.weight.level"].shape == (8, 6, 3, 3) and stored["conv2.weight.scale"].shape == (8,)
    assert (np.abs(stored["conv2.weight.level"]).reshape(8, -1).max(1) == 127).all()
    assert not {"conv1.weight", "conv2.weight", "head.weight"} & stored.keys()


@pytest.mark.parametrize("operator", ["MatMul", "Gemm"])
def test_upright_weights_have_a_scale_per_column(operator):
    weight = np.array([[1, 100], [-0.5, 30]], np.float32)
    model = made(
        graph([helper.make_node(operator, ["x", "w"], ["logits"], "m")], [("w", weight)], (2,)), inputs(9, (2,))
    )
    stored = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    np.testing.assert_allclose(stored["w.scale"], [1 / 127, 100 / 127], rtol=1e-6)


def test_the_file_is_whole_answers_nearly_as_the_float_one_and_is_a_quarter_of_it(tmp_path):
    source, x = conv_net((32, 64)), inputs(100)
    small = made(source, x)
    onnx.checker.check_model(small, full_check=True)
    expected = answers(source, x, tmp_path)
    assert 0 < np.abs(answers(small, x, tmp_path) - expected).max() < 0.03 * np.ptp(expected)
    assert small.ByteSize() < 0.3 * source.ByteSize()


def test_a_tensor_that_was_always_zero_stays_as_it_is():
    assert is_quantized(quantize_symmetric(conv_net(), {"x": (-1.0, 1.0)}))["conv2"] == [1]


def test_in_e4m3_the_runtime_answers_nearly_as_in_float_though_it_drops_relu_before_such_a_quantization(tmp_path):
    """Without a remedy its answers are off by more than their range."""
    model, x = residual(True), inputs(20, (4, 6, 6))
    ranges = {name: min_max(seen) for name, seen in observe(model, lambda: iter([x])).items()}
    small = quantize_symmetric(model, ranges, "fp8")
    onnx.checker.check_model(small, full_check=True)
    kinds = [item.data_type for item in small.graph.initializer if item.name.endswith(".level")]
    assert kinds == [onnx.TensorProto.FLOAT8E4M3FN] * 3
    expected = answers(model, x, tmp_path)
    assert 0 < np.abs(answers(small, x, tmp_path) - expected).max() < 0.1 * np.ptp(expected)


def test_a_weight_that_a_branch_reads_too_stays_for_it():
    model = branching()
    model.graph.node[-1].input[1] = "inner"
    held = {item.name for item in quantize_symmetric(model, {}).graph.initializer}
    assert {"inner", "inner.level"} <= held and "first" not in held
