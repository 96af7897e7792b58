from dataclasses import replace

import numpy as np
import onnx
import pytest
from graphs import answers, conv_net, graph, inputs
from onnx import helper

from tasks.export.packed import packed
from tasks.quantize.stored import Grouped, expand_, packed_bits
from tasks.quantize.weights import hqq, quantize_weights, rtn


def grouped(bits, shape=(3, 2, 9), seed=0):
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, 2**bits, shape).astype(np.uint8)
    scale, zero = rng.uniform(0.1, 1, (2, *shape[:2], 1)).astype(np.float16)
    return Grouped(levels, scale, zero, bits)


def expanded(found, shape, *, upright=False):
    """x times a weight of `found`, whose rows are outputs."""
    features = shape[0] if upright else shape[1]
    node = helper.make_node("MatMul" if upright else "Gemm", ["x", "w"], ["logits"], **{} if upright else {"transB": 1})
    model = graph([node], [("w", np.zeros(shape, np.float32))], (features,))
    model.graph.initializer.pop()
    expand_(model.graph, "w", found, shape, upright=upright)
    return model


def test_two_bits_by_hand():
    """1 + 2 * 4 + 3 * 16 + 0 * 64, and the last byte filled up."""
    assert packed_bits(np.array([1, 2, 3, 0, 2], np.uint8), 2).ravel().tolist() == [57, 2]


@pytest.mark.parametrize("upright", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
def test_every_level_comes_back_exactly_the_filling_aside(bits, upright, tmp_path):
    found = grouped(bits)
    model = expanded(found, (17, 3) if upright else (3, 17), upright=upright)
    onnx.checker.check_model(model, full_check=True)
    wanted = found.values.reshape(3, 18)[:, :17]
    assert np.array_equal(answers(model, np.eye(17, dtype=np.float32), tmp_path), wanted.T)


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_a_weight_takes_its_bits_on_disk_and_no_more(bits):
    few, many = (expanded(grouped(bits, (8, 1, n)), (8, n)).ByteSize() for n in (800, 8800))
    assert (many - few) * 8 == pytest.approx(bits * 8 * 8000, rel=1e-3)


def test_three_bits_are_served_in_three_and_pack_no_worse_than_in_containers_of_four():
    found = rtn(np.random.default_rng(0).standard_normal((256, 8, 32)).astype(np.float32), bits=3)
    three, four = (expanded(replace(found, bits=bits), (256, 256)).SerializeToString() for bits in (3, 4))
    assert len(three) < 0.82 * len(four) and len(packed(three)) < len(packed(four))


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_openvino_reads_the_same_weights(bits, tmp_path):
    """It once did not: its compressed products take shifts of bytes for something else."""
    openvino = pytest.importorskip("openvino")
    small = quantize_weights(conv_net((8, 40)), lambda layer, rows: hqq(rows, bits=bits), group_size=32)
    wanted = answers(small, inputs(), tmp_path)
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    found = openvino.Core().compile_model(str(tmp_path / "answers.onnx"), "CPU", exact)(inputs())[0]
    np.testing.assert_allclose(found, wanted, atol=1e-5)
