import networks
import numpy as np
import pytest
import torch
from graphs import conv_net, graph, inputs
from learning import differs_by, exported, int8, learned
from onnx import helper, numpy_helper
from toy import pictures

from tasks.models.resnet import ResNet
from tasks.quantize.calibration import min_max, observe
from tasks.quantize.int8 import quantize
from tasks.quantize.narrow import narrow, weight_bytes
from tasks.quantize.trainable import Trainable


@pytest.mark.parametrize("weights", ["signed", "reduced", "unsigned"])
def test_the_module_answers_as_the_file_it_was_made_of(weights, tmp_path):
    x = inputs()
    model = int8(conv_net(), x, weights)
    assert differs_by(model, Trainable(model), x, tmp_path) < 1e-3


@pytest.mark.parametrize("weights", ["signed", "reduced", "unsigned"])
def test_what_is_written_after_training_answers_as_the_module(weights, tmp_path):
    x = inputs()
    model = int8(conv_net(), x, weights)
    module = learned(model, x)
    assert differs_by(model, module, x, tmp_path) > 5  # it has learned
    written = module.written()
    assert differs_by(written, module, x, tmp_path) <= 1
    # the same operations at the same places, each constant of the same kind
    assert written.graph.node == model.graph.node
    assert [(c.name, c.data_type, c.dims) for c in written.graph.initializer] == [
        (c.name, c.data_type, c.dims) for c in model.graph.initializer
    ]


@pytest.mark.parametrize(
    "network", [lambda: ResNet((1, 8, 8), 3, (4, 8)), networks.Encoder], ids=["residual", "transformer"]
)
def test_networks_of_every_kind_learn_and_their_files_answer_alike(network, tmp_path):
    torch.manual_seed(0)
    x = pictures(32).inputs(slice(None)).numpy()
    model = int8(exported(network(), tmp_path), x)
    module = learned(model, x, steps=2)
    assert differs_by(module.written(), module, x, tmp_path) < 2.001


def test_every_weight_bias_and_step_learns_and_zero_points_stay(tmp_path):
    x = inputs()
    model = int8(conv_net(), x)
    module = learned(model, x)
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in module.parameters())
    assert len(module.learned) == 6 and len(module.log_steps) == 3 + 4  # three layers; x, two ReLUs, the mean
    before, after = ({c.name: c for c in held.graph.initializer} for held in (model, module.written()))
    zeros = [name for name in before if name.endswith("zero_point")]
    assert zeros and all(
        np.array_equal(*(numpy_helper.to_array(held[name]) for held in (before, after))) for name in zeros
    )


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_weights_keep_the_bits_they_were_given_through_training(bits, tmp_path):
    x = inputs()
    model = int8(conv_net(), x)
    model = narrow(model, dict.fromkeys(weight_bytes(model), bits))
    module = learned(model, x)
    written = module.written()
    held = [numpy_helper.to_array(c) for c in written.graph.initializer if c.name.endswith("weight_quantized")]
    assert len(held) == 3 and max(np.abs(array).max() for array in held) == 2 ** (bits - 1) - 1
    assert differs_by(written, module, x, tmp_path) <= 1


def test_layers_that_were_left_in_float_learn_too(tmp_path):
    x, source = inputs(), conv_net()
    ranges = {name: min_max(seen) for name, seen in observe(source, lambda: [x]).items()}
    model = quantize(source, ranges, "reduced", in_float=["conv2"])
    module = learned(model, x)
    written = module.written()
    weights = [
        next(numpy_helper.to_array(c) for c in held.graph.initializer if c.name == "conv2.weight")
        for held in (source, written)
    ]
    assert weights[1].dtype == np.float32 and np.abs(weights[0] - weights[1]).min() > 0
    assert differs_by(written, module, x, tmp_path) < 2.001  # a mean that is tipped moves the logits by more than one


def test_two_layers_that_share_a_weight_share_it_still(tmp_path):
    rng = np.random.default_rng(0)
    constants = [
        ("w", rng.standard_normal((4, 4)).astype(np.float32)),
        ("b", rng.standard_normal(4).astype(np.float32)),
    ]
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["hidden"], "one"),
        helper.make_node("Gemm", ["hidden", "w", "b"], ["logits"], "two"),
    ]
    x = rng.standard_normal((32, 4)).astype(np.float32)
    module = learned(int8(graph(nodes, constants, (4,)), x), x)
    assert differs_by(module.written(), module, x, tmp_path) <= 1


def test_the_same_training_twice_gives_the_same_bytes():
    x = inputs()
    model = int8(conv_net(), x)
    assert learned(model, x).written().SerializeToString() == learned(model, x).written().SerializeToString()


def test_another_graph_is_told_apart_where_the_constants_are_the_same():
    x = inputs()
    model, other = int8(conv_net(), x), int8(conv_net(), x)
    next(node for node in other.graph.node if node.op_type == "Conv" and "conv2" in node.name).attribute[0].ints[0] = 1
    assert str(Trainable(model)) != str(Trainable(other))


def test_an_operation_that_cannot_be_trained_is_named_with_what_would_do():
    model = graph([helper.make_node("CumSum", ["x", "axis"], ["logits"])], [("axis", np.array(1))], (4,))
    with pytest.raises(
        ValueError, match=r"^quantize: the graph has CumSum, which cannot be trained .* or a model of Conv"
    ):
        Trainable(model)
