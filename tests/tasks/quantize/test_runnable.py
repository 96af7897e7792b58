import resource

import numpy as np
import onnx
import pytest
from graphs import conv_net
from onnx import TensorProto, helper
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidProtobuf, NoSuchFile

from tasks.measure.runtime import open_session
from tasks.quantize.runnable import prove_runnable, runnable


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


def in_shape(kind, number):
    """x laid out in a shape of its own, which only a run shows to be possible or not."""
    ends = [helper.make_tensor_value_info(*end) for end in (("x", 1, ["n"]), ("logits", 1, None))]
    shape = helper.make_tensor("shape", TensorProto.INT64, [len(number)], number)
    graph = helper.make_graph([helper.make_node(kind, ["x", "shape"], ["logits"])], "toy", ends[:1], ends[1:], [shape])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return open_session(model.SerializeToString())


def full(path):
    """Write the optimised graph where there is no room."""
    onnx.save(conv_net(), path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        open_session(path, optimised=path.with_name("optimised.onnx"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def stop(error):
    raise error


@pytest.mark.parametrize(
    ("fail", "error"),
    [
        # the runtime calls this Fail, as it calls a file that it cannot open
        (lambda path: in_shape("Expand", [2**50]).run(None, {"x": np.ones(1, np.float32)}), Fail),
        (lambda path: in_shape("Reshape", [3, 5]).run(None, {"x": np.ones(7, np.float32)}), Fail),
        (lambda path: in_shape("Reshape", [3, 5]).run(None, {"x": np.ones((7, 1), np.float32)}), InvalidArgument),
        (lambda path: open_session(path), NoSuchFile),
        (full, InvalidProtobuf),
        (lambda path: stop(MemoryError()), MemoryError),
        (lambda path: stop(OSError(28, "No space left on device")), OSError),
        (lambda path: stop(KeyboardInterrupt()), KeyboardInterrupt),
        (lambda path: stop(IndexError("our own")), IndexError),
        (lambda path: stop(RuntimeError("torch's own")), RuntimeError),
    ],
)
def test_what_is_not_the_scheme_s_fault_passes_as_it_is(fail, error, tmp_path):
    with pytest.raises(error) as caught, runnable("bf16"):
        fail(tmp_path / "model.onnx")
    assert "quantize.scheme" not in str(caught.value)


def test_a_file_newer_than_the_runtime_is_the_scheme_s(tmp_path):
    model = conv_net()
    model.opset_import[0].version = 99
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(ValueError, match=r"^quantize\.scheme bf16: ONNX Runtime [\d.]+ cannot run its file here: "):
        prove_runnable(tmp_path / "model.onnx", "bf16")
