from branches import branching
from graphs import conv_net
from onnx import TensorProto, helper

from tasks.measure.nested import bodies, captured, everywhere, reads


def named(model, name):
    return next(node for node in model.graph.node if node.output[0] == name)


def test_a_branch_reads_what_its_bodies_take_from_around_it():
    node = named(branching(), "chosen")
    assert [len(body.node) for body in bodies(node)] == [2, 2]
    assert captured(node) == ["hidden", "inner"] and reads(node) == ["chosen.is", "hidden", "inner"]


def test_what_a_body_holds_itself_is_not_taken_from_around_it():
    own = helper.make_tensor("own", TensorProto.FLOAT, [1], [2.0])
    item = helper.make_tensor_value_info("item", TensorProto.FLOAT, [1])
    nodes = [helper.make_node("Mul", ["item", "own"], ["a"]), helper.make_node("Add", ["a", "outer"], ["b"])]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("b", "passed")]
    node = helper.make_node(
        "Loop", ["count", "", "item0"], ["r"], body=helper.make_graph(nodes, "g", [item], ends, [own])
    )
    outer = helper.make_node("If", ["c"], ["r"], then_branch=helper.make_graph([node], "h", [], ends[:1]))
    assert captured(node) == ["outer", "passed"] and reads(node) == ["count", "item0", "outer", "passed"]
    assert captured(outer) == ["count", "item0", "outer", "passed", "b"]  # its end "b" is made by none of its own


def test_a_node_without_bodies_reads_its_inputs_as_often_as_it_has_them():
    node = helper.make_node("Clip", ["x", "", "x"], ["y"])
    assert bodies(node) == [] and captured(node) == [] and reads(node) == ["x", "x"]


def test_nodes_come_before_those_that_they_hold_and_know_the_graphs_around_them():
    found = [(node.op_type, [graph.name for graph in around]) for node, around in everywhere(branching().graph)]
    inner = [
        (kind, ["toy", side])
        for side, last in (("positive", "Softplus"), ("negative", "Tanh"))
        for kind in ("MatMul", last)
    ]
    inner = sorted(inner, key=lambda each: each[1][1] != "negative")  # attributes lie by name: else, then
    assert [each for each in found if len(each[1]) == 2] == inner
    assert [kind for kind, around in found if len(around) == 1] == ["Gemm", "ReduceSum", "Greater", "If", "Gemm"]
    assert found[3][0] == "If" and found[4:8] == inner
    assert [node for node, _ in everywhere(conv_net().graph)] == list(conv_net().graph.node)
