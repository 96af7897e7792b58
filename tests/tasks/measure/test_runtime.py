"""One file, float or integer, in every runtime that is installed; in a fresh process; and what is float in it."""

import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from toy import blobs, card, network

from tasks.export.onnx import export
from tasks.measure.accuracy import logits
from tasks.measure.floats import float_operations
from tasks.measure.fresh import cold_start
from tasks.measure.runtime import RUNTIMES, answers
from tasks.measure.size import deployed_bytes
from tasks.quantize.int8 import quantize

SAMPLES = blobs(30)
INSTALLED = [name for name in RUNTIMES if find_spec(name)]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A float file and its integer one, and the model behind them."""
    folder = tmp_path_factory.mktemp("runtime")
    model = network().eval()
    export(model, card((4,)), SAMPLES, folder, "distill.model")
    graph = onnx.shape_inference.infer_shapes(onnx.load(folder / "model.onnx"))
    names = [value.name for value in (*graph.graph.value_info, *graph.graph.input, *graph.graph.output)]
    onnx.save(quantize(graph, dict.fromkeys(names, (-8.0, 8.0))), folder / "int8.onnx")
    return folder / "model.onnx", folder / "int8.onnx", model


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", INSTALLED)
def test_every_runtime_reads_the_float_and_the_integer_file(files, name, threads):
    call = RUNTIMES[name](files[0], threads)
    np.testing.assert_allclose(answers(call, SAMPLES), logits(files[2], SAMPLES).numpy(), rtol=1e-4, atol=1e-5)
    integer = answers(RUNTIMES["onnxruntime"](files[1], 1), SAMPLES)
    for size in (1, 7, 30):
        found = answers(RUNTIMES[name](files[1], threads), SAMPLES, size)
        assert (found.argmax(1) == integer.argmax(1)).all()
        assert np.abs(found - integer).max() <= 1.01 * 16 / 255  # one step of the logits' scale


def test_the_runtimes_need_no_torch_so_that_a_fresh_process_shows_what_serving_costs():
    code = "import sys, tasks.measure.runtime, tasks.measure.fresh; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", INSTALLED)
def test_a_cold_start_is_measured_without_what_this_process_holds(files, name):
    found = cold_start(files[1], name, 1, (4,))
    assert found.cold_start_ms > 0 and found.import_ms > 0
    assert 10e6 < found.import_memory_bytes <= found.peak_memory_bytes < 400e6  # torch alone takes more than that


def test_a_file_that_cannot_be_opened_is_told_in_one_line(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(RuntimeError, match=r"model\.onnx in a fresh process: \S.*(Protobuf|protobuf)"):
        cold_start(tmp_path / "model.onnx", "onnxruntime", 1, (4,))


def test_what_is_float_in_a_float_file_and_what_is_left_of_it_in_integers(files):
    assert "Gemm" in float_operations(files[0])
    assert float_operations(files[1]) == []


def test_an_operation_between_integers_that_computes_in_float_is_found(tmp_path):
    """Quantize, dequantize, exp, quantize, dequantize: ONNX Runtime has no 8-bit exp."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["a"]),
        helper.make_node("DequantizeLinear", ["a", "s", "z"], ["b"]),
        helper.make_node("Exp", ["b"], ["c"]),
        helper.make_node("QuantizeLinear", ["c", "s", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["d", "s", "z"], ["logits"]),
    ]
    constants = [
        numpy_helper.from_array(np.float32(0.1), "s"),
        numpy_helper.from_array(np.uint8(128), "z"),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in ("x", "logits")]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), tmp_path / "exp.onnx")
    assert float_operations(tmp_path / "exp.onnx") == ["Exp"]


def test_companions_count(tmp_path):
    for name, size in {"m.xml": 7, "m.bin": 5, "m.onnx": 3}.items():
        (tmp_path / name).write_bytes(bytes(size))
    assert deployed_bytes(tmp_path / "m.xml") == 12 and deployed_bytes(tmp_path / "m.onnx") == 3
