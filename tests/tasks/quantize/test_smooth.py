import numpy as np
import pytest
from branches import branch_on
from graphs import answers, graph, inputs
from onnx import helper, numpy_helper

from tasks.quantize.inner import inner_values
from tasks.quantize.smooth import smooth

RNG = np.random.default_rng(0)
FEATURES = 6
VECTOR = np.geomspace(0.5, 50, FEATURES).astype(np.float32)


def weight(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def before(kind):
    """Nodes and constants that make `hidden` (batch, 6), some of whose features are large."""
    norm = {"axis": -1}
    return {
        "LayerNormalization": (
            [helper.make_node("LayerNormalization", ["x", "scale", "shift"], ["hidden"], **norm)],
            [("scale", VECTOR), ("shift", VECTOR - 1)],
        ),
        "LayerNormalization without shift": (
            [helper.make_node("LayerNormalization", ["x", "scale"], ["hidden"], **norm)],
            [("scale", VECTOR)],
        ),
        "Gemm": (
            [helper.make_node("Gemm", ["x", "w1", "b1"], ["g"], transB=1), helper.make_node("Relu", ["g"], ["hidden"])],
            [("w1", weight(FEATURES, FEATURES) * VECTOR[:, None]), ("b1", VECTOR)],
        ),
        "MatMul and Add": (
            [
                helper.make_node("MatMul", ["x", "w1"], ["m"]),
                helper.make_node("Add", ["b1", "m"], ["a"]),
                helper.make_node("LeakyRelu", ["a"], ["hidden"]),
            ],
            [("w1", weight(FEATURES, FEATURES) * VECTOR), ("b1", VECTOR)],
        ),
        "Sub and Div": (
            [helper.make_node("Sub", ["x", "mean"], ["s"]), helper.make_node("Div", ["s", "deviation"], ["hidden"])],
            [("mean", VECTOR), ("deviation", 1 / VECTOR)],
        ),
        "Mul": ([helper.make_node("Mul", ["x", "factor"], ["hidden"])], [("factor", VECTOR[None])]),
    }[kind]


def model(kind, *, readers=1, transposed=True):
    nodes, constants = before(kind)
    for place in range(readers):
        knobs = {"transB": 1} if transposed else {}
        nodes.append(helper.make_node("Gemm", ["hidden", f"v{place}"], [f"y{place}"], **knobs))
        constants.append((f"v{place}", weight(*((3, FEATURES) if transposed else (FEATURES, 3)))))
    nodes.append(helper.make_node("Sum", [f"y{place}" for place in range(readers)], ["logits"]))
    return graph(nodes, constants, (FEATURES,))


KINDS = ["LayerNormalization", "LayerNormalization without shift", "Gemm", "MatMul and Add", "Sub and Div", "Mul"]
X = inputs(40, (FEATURES,))


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("readers", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_function_and_no_node_more(kind, readers, transposed, tmp_path):
    source = model(kind, readers=readers, transposed=transposed)
    even, count = smooth(source, lambda: iter(np.array_split(X, 2)), 0.5)
    assert count >= readers and len(even.graph.node) == len(source.graph.node)
    wanted = answers(source, X, tmp_path)
    np.testing.assert_allclose(answers(even, X, tmp_path), wanted, rtol=1e-3, atol=1e-4 * np.ptp(wanted))
    assert even.SerializeToString() != source.SerializeToString()


def sizes(made, name="hidden"):
    (found,) = inner_values(made, [name], iter([X]))
    return np.abs(found[name]).max(0)


def stored(made, name):
    return next(numpy_helper.to_array(item) for item in made.graph.initializer if item.name == name)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_the_scale_is_the_paper_s(alpha):
    source = model("LayerNormalization", readers=2)
    largest = np.maximum(*(np.abs(stored(source, name)).max(0) for name in ("v0", "v1")))
    scale = sizes(source) ** alpha / largest ** (1 - alpha)
    even, _ = smooth(source, lambda: iter([X]), alpha)
    np.testing.assert_allclose(sizes(even), sizes(source) / scale, rtol=1e-4)
    np.testing.assert_allclose(stored(even, "v1"), stored(source, "v1") * scale, rtol=1e-5)


def test_inputs_become_even_with_alpha_one():
    source = model("Gemm")
    even, _ = smooth(source, lambda: iter([X]), 1.0)
    assert np.ptp(sizes(even)) < 1e-4 < np.ptp(sizes(source))


def test_a_tensor_that_something_else_reads_too_is_left_alone():
    source = model("LayerNormalization")
    source.graph.node.append(helper.make_node("Neg", ["hidden"], ["other"]))
    even, count = smooth(source, lambda: iter([X]), 0.5)
    assert count == 0 and even.SerializeToString() == source.SerializeToString()


def test_a_tensor_that_a_branch_reads_too_is_left_alone():
    source = model("LayerNormalization")
    bodies = [[helper.make_node(kind, ["hidden"], [kind])] for kind in ("Neg", "Abs")]
    source.graph.node.extend(branch_on("other", ["batch", FEATURES], "x", *bodies))
    source.graph.initializer.append(numpy_helper.from_array(np.float32(0), "zero"))
    even, count = smooth(source, lambda: iter([X]), 0.5)
    assert count == 0 and even.SerializeToString() == source.SerializeToString()


def test_the_model_s_own_input_and_what_no_factor_passes_are_left_alone():
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["g"], transB=1),
        helper.make_node("Sigmoid", ["g"], ["s"]),
        helper.make_node("Gemm", ["s", "v"], ["logits"], transB=1),
    ]
    source = graph(nodes, [("w", weight(FEATURES, FEATURES)), ("v", weight(3, FEATURES))], (FEATURES,))
    assert smooth(source, lambda: iter([X]), 0.5)[1] == 0


def test_features_that_are_always_zero_and_weights_that_are_zero_stay_finite(tmp_path):
    source = model("Mul")
    dead = stored(source, "v0").copy()
    dead[:, 1] = 0
    next(item for item in source.graph.initializer if item.name == "v0").CopyFrom(numpy_helper.from_array(dead, "v0"))
    x = X.copy()
    x[:, 3] = 0
    even, _ = smooth(source, lambda: iter([x]), 0.5)
    assert np.isfinite(answers(even, X, tmp_path)).all()


@pytest.mark.parametrize(("order", "count"), [([1, 0, 2], 1), ([0, 2, 1], 0)])
def test_a_transpose_that_leaves_the_features_last_is_looked_through(order, count, tmp_path):
    """As before attention, whose steps come first."""
    nodes = [
        helper.make_node("LayerNormalization", ["x", "scale"], ["n"]),
        helper.make_node("Transpose", ["n"], ["t"], perm=order),
        helper.make_node("MatMul", ["t", "w"], ["logits"]),
    ]
    source, x = graph(nodes, [("scale", VECTOR), ("w", weight(FEATURES, 3))], (6, 6)), inputs(9, (6, 6))
    even, found = smooth(source, lambda: iter([x]), 0.5)
    wanted = answers(source, x, tmp_path)
    assert found == count
    np.testing.assert_allclose(answers(even, x, tmp_path), wanted, rtol=1e-3, atol=1e-4 * np.ptp(wanted))


def test_a_chain_that_something_else_reads_midway_is_left_alone():
    source = model("Gemm")
    source.graph.node.append(helper.make_node("Neg", ["g"], ["other"]))
    assert smooth(source, lambda: iter([X]), 0.5)[1] == 0
