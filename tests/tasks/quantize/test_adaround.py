import numpy as np
import pytest
from graphs import conv_net, graph, inputs
from onnx import helper, numpy_helper

from tasks.params import AdaRound, Int8
from tasks.quantize.adaround import adaround, learned
from tasks.quantize.calibration import min_max, observe
from tasks.quantize.inner import inner_values
from tasks.quantize.int8 import quantize
from tasks.quantize.layers import grams, layers, nearest, output_error, steps_of
from tasks.quantize.prepare import rounder


def problem(outputs=6, features=24, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((400, 4)) @ rng.standard_normal((4, features)) + 0.2 * rng.standard_normal((400, features))
    return rng.standard_normal((outputs, features)).astype(np.float32), x.T @ x / len(x)


def errors(found, rows, gram):
    return np.array([output_error((one - row)[None], gram[None]) for one, row in zip(found, rows, strict=True)])


def test_two_inputs_that_are_always_equal_are_rounded_apart():
    """1.45 and 1.4 steps: nearest loses 0.85 of a step, one up and one down 0.15."""
    rows = np.array([[1.45, 1.4, 7.0]], np.float32)
    same = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]], np.float64)
    assert learned(rows, same, largest=7, steps=300)[0].tolist() == [2, 1, 7]
    assert nearest(rows, 7).tolist() == [[1, 1, 7]]


@pytest.mark.parametrize("largest", [127, 7])
def test_weights_lie_on_a_level_beside_them_and_no_output_is_worse_than_nearest(largest):
    rows, gram = problem()
    found, step = learned(rows, gram, largest=largest, steps=300), steps_of(rows, largest)
    np.testing.assert_allclose(found / step, np.rint(found / step), atol=1e-3)
    assert (np.abs(found - rows) < step * 1.001).all() and np.abs(np.rint(found / step)).max() == largest
    before, after = (errors(one, rows, gram) for one in (nearest(rows, largest), found))
    assert (after <= before).all() and after.sum() < 0.9 * before.sum()


def test_too_few_steps_leave_the_nearest_levels_where_they_are_better():
    rows, gram = problem()
    found, plain = learned(rows, gram, largest=7, steps=1), nearest(rows, 7)
    assert (errors(found, rows, gram) <= errors(plain, rows, gram)).all()


def test_weights_on_the_grid_stay():
    rows = np.array([[127, -3, 0], [5, -127, 60]], np.float32)
    assert np.array_equal(learned(rows, problem(features=3)[1], largest=127, steps=50), rows)


def rounded(model, x, largest=127, steps=150):
    observed = grams(model, layers(model.graph), lambda: iter([x]))
    return adaround(model, observed, largest=largest, steps=steps)


def test_the_integers_in_the_file_are_those_that_were_chosen():
    model, x = conv_net(), inputs(50)
    even, facts = rounded(model, x)
    assert facts["layers"] == 3 and facts["output_error_vs_rtn"] < 1
    ranges = {name: min_max(seen) for name, seen in observe(model, lambda: iter([x])).items()}
    stored = {item.name: numpy_helper.to_array(item) for item in quantize(even, ranges).graph.initializer}
    chosen = {item.name: numpy_helper.to_array(item) for item in even.graph.initializer}
    for name in ("conv1.weight", "conv2.weight", "head.weight"):
        scale = stored[f"{name}_scale"].reshape(-1, *[1] * (chosen[name].ndim - 1))
        np.testing.assert_allclose(stored[f"{name}_quantized"] * scale, chosen[name], atol=1e-6)


def test_the_same_bytes_each_time_and_the_source_unchanged():
    model, x = conv_net(), inputs(50)
    before = model.SerializeToString()
    first, second = (rounded(model, x, steps=20)[0].SerializeToString() for _ in range(2))
    assert first == second != before and model.SerializeToString() == before


def test_the_groups_of_a_convolution_have_their_own_inputs():
    weight = np.random.default_rng(0).standard_normal((4, 1, 3, 3)).astype(np.float32)
    model = graph([helper.make_node("Conv", ["x", "w"], ["logits"], group=4)], [("w", weight)], (4, 5, 5))
    assert rounded(model, inputs(30, (4, 5, 5)).cumsum(3), largest=7)[1]["output_error_vs_rtn"] < 0.8


def test_the_largest_weight_sets_the_scale_and_stays_where_it_is():
    """One level less would leave no error at all; whatever the scale rounds to in float32."""
    rows = np.random.default_rng(0).uniform(0.1, 10, (200, 1)) * np.array([7, 3.6, 3.9])
    inputs = np.array([0.5, 1, 1])
    found = learned(rows.astype(np.float32), np.outer(inputs, inputs), largest=7, steps=300)
    np.testing.assert_allclose(found[:, 0], rows[:, 0], rtol=1e-6)


def test_biases_are_corrected_to_the_float_model_s_means_after_learned_rounding():
    model, x = conv_net(), inputs(60)
    params = Int8(scheme="int8", correct_bias=True, rounding=AdaRound(method="adaround", steps=20))
    made = rounder(model, params, lambda: iter([x]), {})(3)
    names = ["conv1", "conv2", "logits"]
    (wanted,), (found,) = (list(inner_values(one, names, iter([x]))) for one in (model, made))
    for name in names:
        axes = (0, *range(2, wanted[name].ndim))
        np.testing.assert_allclose(found[name].mean(axes), wanted[name].mean(axes), atol=1e-4)
