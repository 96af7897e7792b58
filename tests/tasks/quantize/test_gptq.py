"""Oracle: the same algorithm column by column, as in the paper, solved anew for every column."""

import numpy as np
import pytest
from graphs import answers, conv_net, graph, inputs
from onnx import helper

from tasks.quantize.gptq import GptqOrRtn, gptq
from tasks.quantize.layers import grams, layers, output_error
from tasks.quantize.weights import hqq, levels_of, quantize_weights, rtn

KNOBS = {"damping": 0.01, "activation_order": True}


def correlated(count, features, seed=0):
    """Inputs of which neighbours are alike, as those of real layers."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((count, 6)) @ rng.standard_normal((6, features)) / 2
            + 0.3 * rng.standard_normal((count, features))).astype(np.float32)  # fmt: skip


def problem(outputs=7, features=40, size=16, seed=0):
    rows = np.random.default_rng(seed).standard_t(4, (outputs, features)).astype(np.float32) / 10
    x = correlated(300, features, seed).astype(np.float64)
    groups = np.pad(rows, ((0, 0), (0, -features % size))).reshape(outputs, -1, size)
    return groups, x.T @ x / len(x)


def error(found, groups, gram):
    return output_error((found.values - groups).reshape(len(groups), -1)[:, : len(gram)], gram[None])


def by_definition(groups, gram, bits, damping):
    """After each column is rounded, all later ones are solved for by least squares (damped)."""
    plain, k = hqq(groups, bits=bits), len(gram)
    size = groups.shape[2]
    damped = gram + damping * np.diagonal(gram).mean() * np.eye(k)
    wanted = groups.reshape(len(groups), -1)[:, :k].astype(np.float64)
    left, levels = wanted.copy(), np.zeros((len(groups), k), np.uint8)
    off = np.zeros_like(wanted)  # of the columns that are done
    for column in range(k):
        scale, zero = (part[:, column // size] for part in (plain.scale, plain.zero))
        levels[:, column] = levels_of(left[:, column, None].astype(np.float32), scale, zero, bits)[:, 0]
        value = (levels[:, column, None].astype(np.float32) - zero.astype(np.float32)) * scale.astype(np.float32)
        off[:, column] = value[:, 0] - wanted[:, column]
        later = slice(column + 1, k)
        done = off[:, : column + 1] @ damped[: column + 1, later]
        left[:, later] = wanted[:, later] - np.linalg.solve(damped[later, later], done.T).T
    return levels


@pytest.mark.parametrize("bits", [2, 4])
def test_levels_are_those_of_the_definition(bits):
    groups, gram = problem()
    found = gptq(groups, gram, bits=bits, damping=0.01, activation_order=False)
    wanted = by_definition(groups, gram, bits, 0.01)
    assert (found.levels.reshape(7, -1)[:, :40] == wanted).mean() > 0.99  # a rare tie goes the other way


def test_more_columns_than_a_block_are_rounded_alike(monkeypatch):
    groups, gram = problem(features=70)
    whole = gptq(groups, gram, bits=3, **KNOBS)
    monkeypatch.setattr("tasks.quantize.gptq.BLOCK", 16)
    assert (gptq(groups, gram, bits=3, **KNOBS).levels == whole.levels).mean() > 0.99


@pytest.mark.parametrize("activation_order", [False, True])
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_its_output_errs_far_less_than_that_of_the_nearest_levels(bits, activation_order):
    groups, gram = problem(outputs=16, features=96, size=32)
    found = gptq(groups, gram, bits=bits, damping=0.01, activation_order=activation_order)
    plain = rtn(groups, bits=bits)
    assert error(found, groups, gram) < 0.6 * error(plain, groups, gram)
    grid = hqq(groups, bits=bits)
    assert np.array_equal(found.scale, grid.scale) and np.array_equal(found.zero, grid.zero)


def test_inputs_that_have_nothing_to_do_with_one_another_leave_the_nearest_levels():
    groups, _ = problem()
    found = gptq(groups, np.diag(np.linspace(1, 3, 40)), bits=3, **KNOBS)
    assert np.array_equal(found.levels, hqq(groups, bits=3).levels)


def test_weights_on_the_grid_stay_and_inputs_that_are_always_zero_do_no_harm():
    grid = np.tile(np.arange(-5, 11) * 0.25, (3, 2, 1)).astype(np.float32)
    x = correlated(100, 32).astype(np.float64)
    x[:, 5] = 0
    assert np.array_equal(gptq(grid, x.T @ x, bits=4, **KNOBS).values, grid)


def made(model, x, bits=3):
    rounding = GptqOrRtn(grams(model, layers(model.graph), lambda: iter([x])), bits, **KNOBS)
    return quantize_weights(model, rounding, group_size=16), rounding


@pytest.mark.parametrize("seed", range(4))
def test_no_layer_is_worse_than_with_the_nearest_levels_and_the_facts_say_which_kept_them(seed):
    model, x = conv_net((8, 12), seed=seed), inputs(40, seed=seed)
    _, rounding = made(model, x)
    facts = rounding.facts()
    assert facts["layers"] == 3 and facts["output_error_vs_rtn"] < 1
    worse = {title for title, errors in rounding.errors.items() if errors["gptq"] >= errors["rtn"]}
    assert set(facts["kept_rtn"]) == worse


def test_a_layer_that_gptq_would_harm_keeps_the_nearest_levels(monkeypatch):
    model, x = conv_net(), inputs(40)
    plain = quantize_weights(model, lambda layer, groups: rtn(groups, bits=3), group_size=16)
    zeros = lambda groups, gram, **knobs: rtn(np.zeros_like(groups), bits=3)  # noqa: E731
    monkeypatch.setattr("tasks.quantize.gptq.gptq", zeros)
    kept, rounding = made(model, x)
    assert kept.SerializeToString() == plain.SerializeToString()
    assert rounding.facts() == {
        "layers": 3, "kept_rtn": ["1. Conv 6x1x3x3", "2. Conv 8x6x3x3", "3. Gemm 3x8"], "output_error_vs_rtn": 1,
    }  # fmt: skip


def test_a_grouped_convolution_s_groups_each_have_their_own_inputs(tmp_path):
    weight = np.random.default_rng(0).standard_normal((8, 2, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], group=4, pads=[1] * 4),
        helper.make_node("GlobalAveragePool", ["c"], ["p"]),
        helper.make_node("Flatten", ["p"], ["logits"]),
    ]
    model, x = graph(nodes, [("w", weight)], (8, 6, 6)), inputs(50, (8, 6, 6)).cumsum(1)
    small, rounding = made(model, x, bits=4)
    ((_, errors),) = rounding.errors.items()
    assert errors["gptq"] < 0.9 * errors["rtn"]
    assert np.abs(answers(small, x, tmp_path) - answers(model, x, tmp_path)).max() < 0.5


def test_the_input_of_the_largest_squares_is_rounded_first_and_so_to_its_nearest_level():
    groups, gram = problem()
    large = np.ones(40)
    large[39] = 3
    gram = gram * np.outer(large, large)
    nearest = hqq(groups, bits=3).levels.reshape(7, -1)[:, 39]
    first, last = (
        gptq(groups, gram, bits=3, damping=1e-4, activation_order=order).levels.reshape(7, -1)[:, 39]
        for order in (True, False)
    )
    assert np.array_equal(first, nearest) and not np.array_equal(last, nearest)
