import numpy as np
import onnx
import pytest
from branches import branch_on
from graphs import answers, conv_net, graph, inputs
from learning import int8
from onnx import helper, numpy_helper

from tasks.measure.floats import float_operations
from tasks.measure.integers import operations

GREYS = np.random.default_rng(0).integers(0, 256, (32, 1, 6, 6)).astype(np.float32)
GREYS[0, 0, 0, :2] = 0, 255
WEIGHT = np.random.default_rng(1).standard_normal((4, 1, 3, 3)).astype(np.float32)


def normalised(mean, factor, channels=1):
    constants = [("mean", mean), ("factor", factor), ("w", np.repeat(WEIGHT, channels, 1))]
    nodes = [
        helper.make_node("Sub", ["x", "mean"], ["centred"], "centred"),
        helper.make_node("Mul", ["centred", "factor"], ["scaled"], "scaled"),
        helper.make_node("Conv", ["scaled", "w"], ["conv"], "conv", pads=[1] * 4),
        helper.make_node("GlobalAveragePool", ["conv"], ["pool"], "pool"),
        helper.make_node("Flatten", ["pool"], ["logits"], "flat"),
    ]
    arrays = [(name, np.asarray(array, np.float32)) for name, array in constants]
    return graph(nodes, arrays, shape=(channels, 6, 6))


def kinds(model):
    return [node.op_type for node in model.graph.node]


def constant(model, name):
    return next(numpy_helper.to_array(item) for item in model.graph.initializer if item.name == name)


def reader(model, name):
    return next(node for node in model.graph.node if name in node.input)


def test_levels_are_the_grey_values_and_nothing_is_left_in_float(tmp_path):
    source = normalised([[[73.3]]], [[[0.011]]])
    model = int8(source, GREYS)
    onnx.checker.check_model(model, full_check=True)
    assert "Sub" not in kinds(model) and "Mul" not in kinds(model)
    first = reader(model, "x")
    assert first.op_type == "QuantizeLinear"
    assert constant(model, first.input[1]) == pytest.approx(1) and constant(model, first.input[2]) == 0
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    assert float_operations(path) == []
    expected, found = (answers(each, GREYS, tmp_path) for each in (source, model))
    assert np.abs(found - expected).max() < 0.03 * np.ptp(expected)


def test_the_padding_is_still_the_normalised_zero():
    model = int8(normalised([[[73.3]]], [[[0.011]]]), GREYS, "signed")
    back = reader(model, reader(model, "x").output[0])
    assert back.op_type == "DequantizeLinear"
    step, zero = (constant(model, name) for name in back.input[1:3])
    assert zero == 73  # the level of the mean
    assert step == pytest.approx(0.011)
    values = (np.arange(256) - float(zero)) * step
    assert np.abs(values - (np.arange(256) - 73.3) * 0.011).max() <= 0.5 * step


@pytest.mark.parametrize(
    ("factor", "x"), [(-0.011, GREYS), (0.011, 2000 + GREYS)], ids=["a negative factor", "raw values far from zero"]
)
def test_a_normalisation_that_no_grid_of_levels_has_stays(factor, x):
    assert {"Sub", "Mul"} < set(kinds(int8(normalised([[[x.mean()]]], [[[factor]]]), x, "signed")))


def test_channels_of_their_own_mean_keep_it():
    x = np.repeat(GREYS, 2, 1)
    by_channel = int8(normalised([[[60.0]], [[80.0]]], [[[0.01]], [[0.01]]], 2), x, "signed")
    assert {"Sub", "Mul"} < set(kinds(by_channel))
    alike = int8(normalised([[[60.0]], [[60.0]]], [[[0.01]], [[0.01]]], 2), x, "signed")
    assert not {"Sub", "Mul"} & set(kinds(alike))


def test_a_normalisation_that_a_branch_reads_too_stays(tmp_path):
    made = normalised([[[73.3]]], [[[0.011]]])
    bodies = [[helper.make_node(kind, ["scaled"], [kind])] for kind in ("Tanh", "Neg")]
    nodes = [
        *list(made.graph.node)[:3],
        *branch_on("chosen", ["batch", 1, 6, 6], "conv", *bodies),
        helper.make_node("GlobalAveragePool", ["chosen"], ["pool"], "pool"),
        helper.make_node("Flatten", ["pool"], ["logits"], "flat"),
    ]
    constants = [(item.name, numpy_helper.to_array(item)) for item in made.graph.initializer]
    model = graph(nodes, [*constants, ("zero", np.float32(0))], shape=(1, 6, 6))
    found = int8(model, GREYS, "signed")
    assert {"Sub", "Mul"} < set(kinds(found))
    expected = answers(model, GREYS, tmp_path)
    assert np.abs(answers(found, GREYS, tmp_path) - expected).max() < 0.03 * np.ptp(expected)


def test_the_last_product_gives_floats_out_of_an_integer_kernel(tmp_path):
    x, path = inputs(), tmp_path / "model.onnx"
    model = int8(conv_net(), x)
    assert model.graph.node[-1].op_type == "Gemm" and model.graph.node[-1].output[0] == "logits"
    onnx.save(model, path)
    assert [found.arithmetic for found in operations(path)] == ["integer"] * 3 and float_operations(path) == []
    assert len(np.unique(answers(model, x, tmp_path))) > 150  # of 192, more than a few levels would be


def test_logits_of_another_kind_stay_as_they_are():
    model = int8(normalised([[[73.3]]], [[[0.011]]]), GREYS, "signed")
    assert kinds(model)[-1] == "DequantizeLinear"
