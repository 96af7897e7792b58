"""ONNX Runtime's own answers are the oracle, to the bit: on any processor where nothing saturates, else on this one."""

import numpy as np
import onnx
import pytest
from branches import branching, last_state
from graphs import answers, conv_net, graph, inputs
from learning import logit_step
from onnx import helper
from processor import HERE

from tasks.measure.integers import operations
from tasks.quantize.calibration import min_max, observe
from tasks.quantize.emulation import Emulator
from tasks.quantize.int8 import quantize
from tasks.quantize.products import ARITHMETICS


def quantized(model, weights="reduced", activation="unsigned", x=None):
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim[1:]]
    seen = observe(model, lambda: iter([inputs(64, shape) if x is None else x]))
    return quantize(
        model, {name: min_max(histogram) for name, histogram in seen.items()}, weights, activation=activation
    )


def weights(*shape, seed=0):
    return (np.random.default_rng(seed).standard_normal(shape) / 3).astype(np.float32)


def conv(weight, **knobs):
    """One convolution with a bias, and its mean."""
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], "conv", **knobs),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("GlobalMaxPool", ["r"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["logits"], "flat"),
    ]
    return graph(nodes, [("w", weight), ("b", weights(len(weight), seed=1))], (4, 9, 7))


def products(weight, operator, **knobs):
    return graph([helper.make_node(operator, ["x", "w"], ["logits"], "head", **knobs)], [("w", weight)], (6,))


MODELS = {
    "net": conv_net(),
    "padded": conv(weights(5, 4, 3, 3), pads=[1, 0, 2, 1]),
    "strided and dilated": conv(weights(5, 4, 2, 3), strides=[2, 1], dilations=[2, 2]),
    "grouped": conv(weights(6, 2, 3, 3), group=2),
    "depthwise": conv(weights(4, 1, 3, 3), group=4, pads=[1] * 4),
    "gemm": products(weights(3, 6), "Gemm", transB=1),
    "gemm, upright": products(weights(6, 3), "Gemm"),
    "matmul": products(weights(6, 3), "MatMul"),
}


@pytest.mark.parametrize("name", MODELS)
def test_emulated_bits_are_those_of_the_runtime(name, tmp_path):
    model = quantized(MODELS[name])
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim[1:]]
    x = inputs(100, shape, seed=2)
    assert np.array_equal(Emulator(model, "s8s8").run(x), answers(model, x, tmp_path))


@pytest.mark.parametrize("activation", ["signed", "unsigned"])
@pytest.mark.parametrize("name", MODELS)
def test_weights_of_eight_bits_answer_as_emulated_for_the_processor_at_hand(name, activation, tmp_path):
    model = quantized(MODELS[name], "signed", activation)
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim[1:]]
    x = inputs(100, shape, seed=2)
    assert np.array_equal(Emulator(model, HERE).run(x), answers(model, x, tmp_path))


@pytest.mark.parametrize("name", MODELS)
def test_signed_activations_in_a_chain_saturate_as_unsigned_ones_do(name):
    """The runtime turns them into unsigned bytes, which on a processor without VNNI are cut off."""
    signed, unsigned = (quantized(MODELS[name], "signed", activation) for activation in ("signed", "unsigned"))
    shape = [dim.dim_value for dim in signed.graph.input[0].type.tensor_type.shape.dim[1:]]
    x = inputs(100, shape, seed=2)
    cut_off = [Emulator(model, "u8s8_saturating").run(x) for model in (signed, unsigned)]
    assert np.array_equal(*cut_off)


def residual():
    """relu(conv(x)), read by a convolution and by the sum with what that gives."""
    square = np.abs(weights(4, 4, 3, 3))
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], "c1", pads=[1] * 4),
        helper.make_node("Relu", ["c1"], ["r1"], "r1"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], "c2", pads=[1] * 4),
        helper.make_node("Add", ["c2", "r1"], ["sum"], "sum"),
        helper.make_node("GlobalAveragePool", ["sum"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["logits"], "flat"),
    ]
    return graph(nodes, [("w1", square), ("w2", square[::-1].copy())], (4, 6, 6))


def test_signed_activations_that_two_nodes_read_stay_so_and_their_neighbours_run_in_float(tmp_path):
    """The runtime makes none of the two convolutions unsigned: of both the tensor between them is input or output."""
    x = np.abs(inputs(50, (4, 6, 6), seed=2))
    model = quantized(residual(), "signed", "signed", x)
    onnx.save(model, tmp_path / "model.onnx")
    assert [entry.arithmetic for entry in operations(tmp_path / "model.onnx")] == ["float", "float"]
    exact, cut_off = (Emulator(model, kind).run(x) for kind in ("s8s8", "u8s8_saturating"))
    assert np.array_equal(exact, cut_off)
    unsigned = quantized(residual(), "signed", x=x)
    assert not np.array_equal(Emulator(unsigned, "u8s8_saturating").run(x), Emulator(unsigned, "s8s8").run(x))
    np.testing.assert_allclose(exact, answers(model, x, tmp_path), rtol=0, atol=1.001 * logit_step(model, x, tmp_path))


@pytest.mark.parametrize("kind", ["reduced", "unsigned"])
@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_portable_weights_answer_alike_on_every_processor(kind, arithmetic, tmp_path):
    model, x = quantized(conv_net(), kind), inputs(100, seed=2)
    assert np.array_equal(Emulator(model, arithmetic).run(x), answers(model, x, tmp_path))


def test_signed_bytes_do_not_where_sums_are_large():
    model = products(np.ones((6, 3), np.float32), "MatMul")  # every weight becomes 127
    x = np.random.default_rng(0).uniform(0, 1, (200, 6)).astype(np.float32)
    seen = observe(model, lambda: iter([x]))
    model = quantize(model, {name: min_max(histogram) for name, histogram in seen.items()})
    exact, saturating = (Emulator(model, kind).run(x) for kind in ("s8s8", "u8s8_saturating"))
    assert (saturating <= exact).all() and (saturating < exact).any()
    pairs = 255 * (x[:, ::2] + x[:, 1::2]).max(1) / x.max()
    fits, overflows = pairs < 256, pairs > 260  # 32767 is 258 times 127
    assert fits.any() and np.array_equal(saturating[fits], exact[fits])
    assert overflows.any() and (saturating[overflows] < exact[overflows]).mean() > 0.7  # the output's steps hide some


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@pytest.mark.parametrize("source", [branching, last_state])
def test_branches_that_read_from_around_them_and_outputs_that_none_wants(source, arithmetic, tmp_path):
    model, x = quantized(source()), inputs(40, (4,), seed=2)
    found, expected = Emulator(model, arithmetic).run(x), answers(model, x, tmp_path)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.ptp(expected))


def test_padding_that_the_node_finds_out_itself_is_refused():
    model = quantized(conv(weights(5, 4, 3, 3), auto_pad="SAME_UPPER"))
    with pytest.raises(ValueError, match=r"^quantize\.portable: a Conv with auto_pad cannot be emulated"):
        Emulator(model, "s8s8").run(inputs(2, (4, 9, 7)))
