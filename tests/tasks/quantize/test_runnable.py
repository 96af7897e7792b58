import onnx
import pytest
from graphs import conv_net
from onnx import TensorProto, helper

from tasks.quantize.runnable import prove_runnable


def product(dtype, path):
    """x times a weight, both in `dtype`."""
    weight = helper.make_tensor(
        "w", dtype, [4, 3], bytes(12 * helper.tensor_dtype_to_np_dtype(dtype).itemsize), raw=True
    )
    nodes = [
        helper.make_node("Cast", ["x"], ["c"], to=dtype),
        helper.make_node("MatMul", ["c", "w"], ["o"]),
        helper.make_node("Cast", ["o"], ["logits"], to=TensorProto.FLOAT),
    ]
    ends = [helper.make_tensor_value_info(*end) for end in (("x", 1, ["batch", 4]), ("logits", 1, ["batch", 3]))]
    graph = helper.make_graph(nodes, "toy", ends[:1], ends[1:], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)


@pytest.mark.parametrize(
    ("dtype", "reason"),
    [
        (TensorProto.BFLOAT16, r"Could not find an implementation for MatMul\(13\)"),
        (TensorProto.FLOAT8E4M3FN, r"Type 'tensor\(float8e4m3fn\)' of input parameter"),
    ],
)
def test_a_type_that_the_runtime_cannot_multiply_is_named_in_one_line(dtype, reason, tmp_path):
    product(dtype, tmp_path / "model.onnx")
    with pytest.raises(
        ValueError, match=rf"^quantize\.scheme bf16: ONNX Runtime [\d.]+ cannot run .*{reason}.*$"
    ) as error:
        prove_runnable(tmp_path / "model.onnx", "bf16")
    assert "\n" not in str(error.value) and str(tmp_path) not in str(error.value)


def test_what_it_can_run_passes(tmp_path):
    onnx.save(conv_net(), tmp_path / "model.onnx")
    prove_runnable(tmp_path / "model.onnx", "int8")
