"""Where nothing saturates, ONNX Runtime's own answers are the oracle, to the bit."""

import numpy as np
import pytest
from graphs import answers, conv_net, graph, inputs
from onnx import helper

from tasks.quantize.calibration import min_max, observe
from tasks.quantize.emulation import Emulator
from tasks.quantize.int8 import quantize
from tasks.quantize.products import ARITHMETICS


def quantized(model, weights="reduced"):
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim[1:]]
    seen = observe(model, lambda: iter([inputs(64, shape)]))
    return quantize(model, {name: min_max(histogram) for name, histogram in seen.items()}, weights)


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


def test_padding_that_the_node_finds_out_itself_is_refused():
    model = quantized(conv(weights(5, 4, 3, 3), auto_pad="SAME_UPPER"))
    with pytest.raises(ValueError, match=r"^quantize\.portable: a Conv with auto_pad cannot be emulated"):
        Emulator(model, "s8s8").run(inputs(2, (4, 9, 7)))
