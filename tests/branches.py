"""Small ONNX graphs with what PyTorch exports of branches and of an LSTM, written by hand."""

import numpy as np
from graphs import graph
from onnx import TensorProto, helper


def weights(*shape, seed=0):
    return (np.random.default_rng(seed).standard_normal(shape) / 2).astype(np.float32)


def branch_on(name, shape, tests, positive, negative):
    """Nodes that make `name` by one of two bodies, as the sum of `tests` is above zero or not; a body: its nodes."""
    parts = [
        helper.make_graph(
            nodes, side, [], [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, shape)]
        )
        for side, nodes in (("positive", positive), ("negative", negative))
    ]
    return [
        helper.make_node("ReduceSum", [tests], [f"{name}.total"], f"{name}.total", keepdims=0),
        helper.make_node("Greater", [f"{name}.total", "zero"], [f"{name}.is"], f"{name}.is"),
        helper.make_node("If", [f"{name}.is"], [name], name, then_branch=parts[0], else_branch=parts[1]),
    ]


def branching():
    """(batch, 4) -> (batch, 3): a product, one of two that read its output and share a weight, and a last one."""

    def body(side, operator):
        product = helper.make_node("MatMul", ["hidden", "inner"], [f"{side}.product"])
        return [product, helper.make_node(operator, [f"{side}.product"], [f"{side}.out"])]

    nodes = [
        helper.make_node("Gemm", ["x", "first"], ["hidden"], "hidden"),
        *branch_on("chosen", ["batch", 6], "hidden", body("then", "Softplus"), body("else", "Tanh")),
        helper.make_node("Gemm", ["chosen", "last"], ["logits"], "logits"),
    ]
    constants = {
        "first": weights(4, 6),
        "inner": weights(6, 6, seed=1),
        "last": weights(6, 3, seed=2),
        "zero": np.float32(0),
    }
    return graph(nodes, constants.items(), (4,))


def last_state():
    """(batch, 4) -> (batch, 3): an LSTM of which the last hidden state alone is read, and a product."""
    nodes = [
        helper.make_node("Unsqueeze", ["x", "front"], ["sequence"], "sequence"),
        helper.make_node("LSTM", ["sequence", "w", "r"], ["", "state"], "lstm", hidden_size=3),
        helper.make_node("Squeeze", ["state", "front"], ["flat"], "flat"),
        helper.make_node("Gemm", ["flat", "head"], ["logits"], "logits"),
    ]
    constants = {"front": np.array([0]), "w": weights(1, 12, 4), "r": weights(1, 12, 3), "head": weights(3, 3, seed=1)}
    return graph(nodes, constants.items(), (4,))
