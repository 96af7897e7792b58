import numpy as np
import pytest
from branches import branch_on
from graphs import answers, conv_net, graph, inputs
from onnx import helper, numpy_helper

from tasks.quantize.calibration import min_max, observe
from tasks.quantize.equalise import _means, _rounded, correct_biases, equalise
from tasks.quantize.int8 import quantize


def stored(model):
    return {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}


def chain(second, between="Relu", **knobs):
    """A convolution of four channels, something between, and a second one of weights `second`."""
    rng = np.random.default_rng(0)
    first = (rng.standard_normal((4, 1, 3, 3)) * np.geomspace(1, 100, 4).reshape(-1, 1, 1, 1)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1] * 4),
        helper.make_node(between, ["c1"], ["between"], **({"kernel_shape": [2, 2]} if "Pool" in between else {})),
        helper.make_node("Conv", ["between", "w2"], ["c2"], **knobs),
        helper.make_node("GlobalAveragePool", ["c2"], ["pool"]),
        helper.make_node("Flatten", ["pool"], ["logits"]),
    ]
    return graph(nodes, [("w1", first), ("b1", rng.standard_normal(4).astype(np.float32)), ("w2", second)])


SECOND = np.random.default_rng(1).standard_normal((5, 4, 3, 3)).astype(np.float32)
DEPTHWISE = SECOND[:4, :1]


@pytest.mark.parametrize("between", ["Relu", "LeakyRelu", "MaxPool", "AveragePool"])
@pytest.mark.parametrize(("second", "knobs"), [(SECOND, {}), (DEPTHWISE, {"group": 4})])
def test_equalised_weights_are_the_same_function(between, second, knobs, tmp_path):
    model, x = chain(second, between, **knobs), inputs()
    even, count = equalise(model)
    assert count == 1
    before, after = answers(model, x, tmp_path), answers(even, x, tmp_path)
    np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-4 * np.ptp(before))
    weights = stored(even)
    here = np.abs(weights["w1"]).reshape(4, -1).max(1)
    there = np.abs(weights["w2"] if knobs else weights["w2"].swapaxes(0, 1)).reshape(4, -1).max(1)
    np.testing.assert_allclose(here, there, rtol=1e-4)
    assert not np.allclose(weights["w1"], stored(model)["w1"])


@pytest.mark.parametrize("between", ["Sigmoid", "Softplus"])
def test_what_a_factor_does_not_pass_through_is_left_alone(between):
    model = chain(SECOND, between)
    even, count = equalise(model)
    assert count == 0 and even.SerializeToString() == model.SerializeToString()


def test_a_tensor_that_something_else_reads_too_is_left_alone():
    model = chain(SECOND)
    model.graph.node.append(helper.make_node("Neg", ["c1"], ["other"]))
    assert equalise(model)[1] == 0


def test_a_dead_channel_stays_dead():
    dead = SECOND.copy()
    dead[:, 2] = 0
    even, _ = equalise(chain(dead))
    assert np.isfinite(stored(even)["w1"]).all() and not stored(even)["w2"][:, 2].any()


def test_uneven_channels_survive_eight_bits_better_once_equalised(tmp_path):
    model, x = conv_net(spread=1000.0), inputs(200)
    expected = answers(model, x, tmp_path)

    def error(source):
        seen = observe(source, lambda: iter([x]))
        small = quantize(source, {name: min_max(histogram) for name, histogram in seen.items()})
        return float(np.square(answers(small, x, tmp_path) - expected).mean())

    even, count = equalise(model)
    assert count == 1 and error(even) < error(model) / 2


def test_corrected_biases_bring_every_layers_mean_back():
    model, x = conv_net(), inputs(100)
    fixed, count = correct_biases(model, lambda: iter(np.array_split(x, 3)), largest=3, reference=model)
    assert count == 3
    layers = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
    wanted, before, after = (_means(m, layers, [x]) for m in (model, _rounded(model, 3), _rounded(fixed, 3)))
    for name in wanted:
        left, lost = (np.abs(means[name] - wanted[name]).max() for means in (after, before))
        assert left < 1e-4 and lost > 1e-3


def test_weights_on_the_grid_need_no_correction():
    weight = np.array([[127, -3], [-127, 50]], np.float32)
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["logits"], transB=1)]
    model = graph(nodes, [("w", weight), ("b", np.array([1, 2], np.float32))], (2,))
    fixed, _ = correct_biases(model, lambda: iter([inputs(50, (2,))]), largest=127, reference=model)
    np.testing.assert_allclose(stored(fixed)["b"], [1, 2], atol=1e-4)


def test_layers_that_share_a_constant_in_the_file_are_corrected_each_by_itself(tmp_path):
    weight, bias = np.array([[1, 0.3], [0.2, -1]], np.float32), np.zeros(2, np.float32)
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["hidden"], transB=1),
        helper.make_node("Gemm", ["hidden", "w", "b"], ["logits"], transB=1),
    ]
    model, x = graph(nodes, [("w", weight), ("b", bias)], (2,)), inputs(50, (2,)) + 1
    fixed, count = correct_biases(model, lambda: iter([x]), largest=2, reference=model)
    wanted, after = (_means(m, list(model.graph.node), [x]) for m in (model, _rounded(fixed, 2)))
    assert count == 2 and fixed.graph.node[0].input[2] != fixed.graph.node[1].input[2]
    for name in wanted:
        np.testing.assert_allclose(after[name], wanted[name], atol=1e-5)


def test_equal_biases_do_not_keep_two_convolutions_apart():
    model = chain(SECOND)
    model.graph.node[2].input.append("b1")
    model.graph.initializer[2].CopyFrom(numpy_helper.from_array(SECOND[:4], "w2"))
    assert equalise(model)[1] == 1


def test_channels_that_a_branch_reads_are_left_alone(tmp_path):
    made = chain(SECOND)
    bodies = [[helper.make_node(kind, ["between"], [kind])] for kind in ("Tanh", "Softplus")]
    nodes = [
        *list(made.graph.node)[:3],
        *branch_on("chosen", ["batch", 4, 8, 8], "c2", *bodies),
        helper.make_node("GlobalAveragePool", ["chosen"], ["pool"]),
        helper.make_node("Flatten", ["pool"], ["logits"]),
    ]
    model, x = graph(nodes, [*stored(made).items(), ("zero", np.float32(0))]), inputs()
    even, count = equalise(model)
    assert count == 0 and np.array_equal(answers(even, x, tmp_path), answers(model, x, tmp_path))
