import numpy as np
import pytest
from graphs import answers, conv_net, graph, inputs
from onnx import helper

from tasks.measure.runtime import open_session
from tasks.quantize.auto import _error, _rounding, choose_ranges
from tasks.quantize.calibration import CALIBRATIONS, observe


def chosen(model, x):
    def batches():
        return iter(np.array_split(x, 2))

    histograms = observe(model, batches)
    return histograms, *choose_ranges(model, histograms, batches)


def test_every_tensor_has_one_and_the_range_is_its_own():
    histograms, ranges, methods = chosen(conv_net(), inputs())
    assert set(ranges) == set(methods) == set(histograms)
    assert ranges == {name: CALIBRATIONS[method](histograms[name]) for name, method in methods.items()}


def test_no_candidate_of_any_tensor_harms_the_answers_less(tmp_path):
    model, x = conv_net(), inputs()
    histograms, ranges, _ = chosen(model, x)
    expected = [answers(model, x, tmp_path)]
    for name, histogram in histograms.items():
        session = open_session(_rounding(model, name).SerializeToString())
        errors = [_error(session, choose(histogram), [x], expected) for choose in CALIBRATIONS.values()]
        assert _error(session, ranges[name], [x], expected) == pytest.approx(min(errors), rel=1e-3)
        assert max(errors) > 0


def test_an_outlier_counts_where_the_answer_hangs_on_it_and_not_where_it_is_lost():
    """The same values on both ways: one is passed on, the other is cut at one before it matters."""
    nodes = [
        helper.make_node("Add", ["x", "zero"], ["passed"]),
        helper.make_node("Add", ["x", "zero"], ["lost"]),
        helper.make_node("Min", ["lost", "one"], ["cut"]),
        helper.make_node("Sub", ["passed", "cut"], ["logits"]),
    ]
    model = graph(nodes, [("zero", np.float32(0)), ("one", np.float32(1))], (4,))
    x = np.random.default_rng(0).uniform(0, 1, (500, 4)).astype(np.float32)
    x[0, 0] = 400
    _, ranges, _ = chosen(model, x)
    assert ranges["passed"][1] > 300 and ranges["lost"][1] < 100


@pytest.mark.parametrize(("name", "sign"), [("x", 1), ("logits", -1)])
def test_the_tensor_is_rounded_to_the_given_levels_be_it_input_or_output(name, sign):
    model = graph([helper.make_node("Neg", ["x"], ["logits"])], shape=(4,))
    knobs = {"rounding.scale": np.array(0.5, np.float32), "rounding.zero": np.array(10, np.uint8)}
    x = np.array([[0.2, 0.3, -5.2, 200]], np.float32)
    found = open_session(_rounding(model, name).SerializeToString()).run(None, {"x": sign * x, **knobs})[0]
    assert (-sign * found).tolist() == [[0, 0.5, -5, 122.5]]
