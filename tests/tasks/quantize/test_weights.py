import numpy as np
import onnx
import pytest
from graphs import answers, conv_net, graph, inputs
from onnx import helper

from tasks.export.slim import slim
from tasks.measure.runtime import open_session
from tasks.quantize.weights import NORM, WEIGHTS, hqq, quantize_weights, rtn


def groups(*shape, seed=0):
    return np.random.default_rng(seed).standard_t(4, shape).astype(np.float32) / 10


def stored(model, method="rtn", bits=4, group_size=32):
    return quantize_weights(model, lambda layer, rows: WEIGHTS[method](rows, bits=bits), group_size=group_size)


def error(found, weights):
    return np.abs(found.values - weights)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_rounding_errs_by_half_a_step_at_most(bits):
    weights = groups(5, 3, 32)
    found = rtn(weights, bits=bits)
    assert (error(found, weights) <= found.scale.astype(np.float32) * 0.501).all()
    assert found.levels.max() == 2**bits - 1 and found.levels.min() == 0


def test_weights_on_the_grid_and_zeros_are_exact():
    grid = np.tile(np.arange(-5, 11) * 0.25, (3, 2, 1)).astype(np.float32)
    assert np.array_equal(rtn(grid, bits=4).values, grid)
    pruned = groups(4, 2, 32) * (np.arange(32) % 2)
    assert not rtn(pruned.astype(np.float32), bits=4).values[..., ::2].any()
    assert not rtn(np.zeros((1, 1, 8), np.float32), bits=4).values.any()


@pytest.mark.parametrize("method", WEIGHTS)
def test_more_bits_are_never_worse(method):
    weights = groups(6, 4, 32)
    errors = [(error(WEIGHTS[method](weights, bits=bits), weights) ** NORM).sum() for bits in (2, 3, 4)]
    assert errors == sorted(errors, reverse=True)


def test_hqq_is_better_by_its_norm_in_some_group_and_worse_in_none():
    weights = groups(20, 4, 32)
    before, after = ((error(method(weights, bits=3), weights) ** NORM).sum(-1) for method in (rtn, hqq))
    assert (after <= before).all() and (after < before).mean() > 0.2


@pytest.mark.parametrize("method", WEIGHTS)
def test_the_file_computes_with_exactly_the_expanded_weights(method, tmp_path):
    """An odd number of inputs that no group divides, and a layer shorter than a group."""
    weight = groups(7, 37)
    model = graph([helper.make_node("Gemm", ["x", "w"], ["logits"], transB=1)], [("w", weight)], (37,))
    padded = np.pad(weight, ((0, 0), (0, 2))).reshape(7, 3, 13)  # no more than 16, and as even as can be
    expanded = WEIGHTS[method](padded, bits=4).values.reshape(7, -1)[:, :37]
    x = np.eye(37, dtype=np.float32)
    found = answers(stored(model, method, group_size=16), x, tmp_path)
    assert np.array_equal(found, expanded.T)


@pytest.mark.parametrize("operator", ["MatMul", "Gemm"])
def test_weights_that_stand_upright_are_grouped_along_their_inputs_too(operator, tmp_path):
    weight = groups(16, 3)
    model = graph([helper.make_node(operator, ["x", "w"], ["logits"])], [("w", weight)], (16,))
    found = answers(stored(model, "rtn", group_size=16), np.eye(16, dtype=np.float32), tmp_path)
    assert np.array_equal(found, rtn(weight.T.reshape(3, 1, 16), bits=4).values.reshape(3, 16).T)


def test_a_row_just_longer_than_a_group_takes_hardly_more_bytes():
    sizes = [
        stored(graph([helper.make_node("Gemm", ["x", "w"], ["logits"], transB=1)], [("w", groups(64, n))], (n,)),
               group_size=128).ByteSize()
        for n in (128, 144)
    ]  # fmt: skip
    assert sizes[1] < 1.25 * sizes[0]


def test_weights_are_expanded_once_at_load_and_not_at_every_call(tmp_path):
    onnx.save(stored(conv_net(), "rtn", group_size=32), tmp_path / "model.onnx")
    open_session(tmp_path / "model.onnx", optimised=tmp_path / "optimised.onnx")
    kinds = {node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node}
    assert not kinds & {"Cast", "Sub", "Mul", "Slice", "DequantizeLinear"}


def test_the_file_is_small_whole_and_the_same_after_reloading(tmp_path):
    source, x = conv_net((32, 64)), inputs()
    small = slim(stored(source, "hqq", group_size=32))
    onnx.checker.check_model(small, full_check=True)
    first = answers(small, x, tmp_path)
    assert np.array_equal(answers(onnx.load(tmp_path / "answers.onnx"), x, tmp_path), first)
    assert small.ByteSize() < source.ByteSize() / 5
    expected = answers(source, x, tmp_path)
    assert 0 < np.abs(first - expected).max() < 0.2 * np.ptp(expected)


def test_a_model_without_weights_and_one_with_nan_are_refused():
    with pytest.raises(ValueError, match=r"^quantize\.scheme: the model has no convolution or product"):
        stored(graph([helper.make_node("Neg", ["x"], ["logits"])]), "rtn", group_size=32)
    broken = graph([helper.make_node("MatMul", ["x", "w"], ["logits"])], [("w", groups(4, 3) * np.nan)], (4,))
    with pytest.raises(ValueError, match=r"^quantize\.scheme: weight w is not finite"):
        stored(broken, "rtn", group_size=32)
