from itertools import islice

import numpy as np
import onnx
from graphs import answers, conv_net, graph, inputs
from onnx import helper

from tasks.export.slim import _letters, slim
from tasks.quantize.calibration import min_max, observe
from tasks.quantize.int8 import quantize


def quantized():
    model = conv_net()
    seen = observe(model, lambda: iter([inputs(32)]))
    return quantize(model, {name: min_max(histogram) for name, histogram in seen.items()})


def test_the_small_file_computes_the_same_bits(tmp_path):
    for model in (conv_net(), quantized()):
        x, size = inputs(), model.ByteSize()
        expected = answers(model, x, tmp_path)
        small = slim(model)
        onnx.checker.check_model(small, full_check=True)
        assert np.array_equal(answers(small, x, tmp_path), expected)
        assert small.ByteSize() < size


def test_what_is_left_of_a_quantized_file_is_mostly_its_values():
    small = slim(quantized())
    values = sum(onnx.numpy_helper.to_array(item).nbytes for item in small.graph.initializer)
    assert small.ByteSize() - values < 2_000
    assert max(len(name) for node in small.graph.node for name in node.output if name != "logits") <= 2


def test_inputs_and_outputs_keep_their_names_though_they_are_short():
    model = graph(
        [helper.make_node("Add", ["x", "constant"], ["middle"]), helper.make_node("Neg", ["middle"], ["a"])],
        [("constant", np.float32(1))],
        outputs=("a",),
    )
    small = slim(model)
    assert [item.name for item in (*small.graph.input, *small.graph.output)] == ["x", "a"]
    assert [list(node.input) + list(node.output) for node in small.graph.node] == [["x", "b", "c"], ["c", "a"]]


def test_only_constants_of_the_same_type_shape_and_values_are_merged(tmp_path):
    constants = [
        ("one", np.ones((1, 1), np.float32)),
        ("same", np.ones((1, 1), np.float32)),
        ("shaped", np.ones(1, np.float32)),
        ("integer", np.ones((1, 1), np.int32)),
        ("other", np.full((1, 1), 2, np.float32)),
    ]
    nodes = [
        helper.make_node("Add", ["x", "one"], ["first"]),
        helper.make_node("Mul", ["first", "same"], ["second"]),
        helper.make_node("Mul", ["second", "shaped"], ["third"]),
        helper.make_node("Cast", ["integer"], ["cast"], to=1),
        helper.make_node("Mul", ["third", "cast"], ["fourth"]),
        helper.make_node("Mul", ["fourth", "other"], ["logits"]),
    ]
    small = slim(graph(nodes, constants, (4,)))
    assert len(small.graph.initializer) == 4
    assert small.graph.node[0].input[1] == small.graph.node[1].input[1]
    x = inputs(3, (4,))
    assert np.array_equal(answers(small, x, tmp_path), (x + 1) * 2)


def test_a_graph_within_the_graph_keeps_the_names_that_it_reads(tmp_path):
    def branch(name, operator):
        end = helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node(operator, ["outer_tensor"], [name])], name, [], [end])

    nodes = [
        helper.make_node("Neg", ["x"], ["outer_tensor"]),
        helper.make_node("ReduceMax", ["x"], ["largest"], keepdims=0),
        helper.make_node("Greater", ["largest", "zero"], ["positive"]),
        helper.make_node(
            "If", ["positive"], ["logits"], then_branch=branch("t", "Abs"), else_branch=branch("e", "Neg")
        ),
    ]
    small = slim(graph(nodes, [("zero", np.float32(0))], (4,)))
    x = np.abs(inputs(3, (4,)))
    assert np.array_equal(answers(small, x, tmp_path), x)


def test_no_two_names_are_the_same():
    names = list(islice(_letters(), 5_000))
    assert len(set(names)) == 5_000 and names[51:53] == ["Z", "aa"] and max(map(len, names)) == 3
