import numpy as np
import onnx
import pytest
from branches import branching
from graphs import conv_net, graph, inputs
from onnx import helper

from tasks.measure.integers import integer_op_share, operations
from tasks.quantize.calibration import min_max, observe
from tasks.quantize.int8 import quantize


def quantized(model):
    """All that ONNX Runtime can do in integers, with ranges of random inputs."""
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim[1:]]
    seen = observe(model, lambda: iter([inputs(32, shape)]))
    return quantize(model, {name: min_max(histogram) for name, histogram in seen.items()})


def listed(model, tmp_path):
    onnx.save(model, tmp_path / "model.onnx")
    found = operations(tmp_path / "model.onnx")
    return found, [operation.arithmetic for operation in found], [operation.reason for operation in found]


def test_a_float_file_has_no_integer_operation(tmp_path):
    found, kinds, reasons = listed(conv_net(), tmp_path)
    assert kinds == ["float"] * 3 and set(reasons) == {"its input is not quantized"}
    assert integer_op_share(found) == 0


def test_a_quantized_file_is_integer_all_the_way_and_says_what_each_operation_is(tmp_path):
    found, kinds, _ = listed(quantized(conv_net()), tmp_path)
    assert kinds == ["integer"] * 3 and integer_op_share(found) == 1
    assert [entry.name for entry in found] == ["1. QLinearConv 6x1x3x3", "2. QLinearConv 8x6x3x3", "3. QGemm 3x8"]


def test_an_operation_left_in_float_is_counted_with_its_reason(tmp_path):
    model = quantized(conv_net())
    target = next(node for node in model.graph.node if node.op_type == "Conv")
    maker = {output: node for node in model.graph.node for output in node.output}
    target.input[0] = maker[maker[target.input[0]].input[0]].input[0]  # past its DequantizeLinear and QuantizeLinear
    found, kinds, reasons = listed(model, tmp_path)
    assert kinds == ["float", "integer", "integer"] and integer_op_share(found) == pytest.approx(2 / 3)
    assert reasons[0] == "its input is not quantized"


def test_an_output_that_goes_on_in_float_is_named(tmp_path):
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "s", "wz"], ["dw"]),
        helper.make_node("Conv", ["d", "dw"], ["c"]),
        helper.make_node("Softplus", ["c"], ["logits"]),
    ]
    weight = np.ones((2, 1, 3, 3), np.int8)
    constants = [("s", np.float32(0.1)), ("z", np.uint8(9)), ("w", weight), ("wz", np.int8(0))]
    _, kinds, reasons = listed(graph(nodes, constants), tmp_path)
    assert kinds == ["float"] and reasons == ["its output goes on in float, to Softplus"]


def test_an_operation_without_an_integer_kernel_says_so(tmp_path):
    nodes = [helper.make_node("ConvTranspose", ["x", "w"], ["logits"])]
    _, kinds, reasons = listed(graph(nodes, [("w", np.ones((1, 2, 3, 3), np.float32))]), tmp_path)
    assert kinds == ["float"] and reasons == ["ONNX Runtime has no 8-bit kernel for ConvTranspose on the CPU"]


def test_products_in_a_branch_are_listed_with_their_weights_and_reasons(tmp_path):
    found, kinds, reasons = listed(branching(), tmp_path)
    assert [entry.name for entry in found] == ["1. Gemm 4x6", "2. MatMul 6x6", "3. MatMul 6x6", "4. Gemm 6x3"]
    assert set(kinds) == {"float"} and set(reasons) == {"its input is not quantized"}
    found, kinds, reasons = listed(quantized(branching()), tmp_path)
    assert kinds == ["float", "float", "float", "integer"] and integer_op_share(found) == 1 / 4
    assert reasons[0].startswith("its output goes on in float, to If") and reasons[1] == "its input is not quantized"


def test_nothing_to_compute_leaves_nothing_in_float(tmp_path):
    found, _, _ = listed(graph([helper.make_node("Neg", ["x"], ["logits"])]), tmp_path)
    assert found == [] and integer_op_share(found) == 1
