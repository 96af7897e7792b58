from dataclasses import dataclass

import numpy as np
import pytest
from graphs import conv_net, inputs
from onnx import numpy_helper

from tasks.data.batches import Samples
from tasks.quantize.judge import Judge, divergence
from tasks.quantize.mixed import assign


@dataclass(frozen=True)
class Found:
    harm: float
    inside: bool


def toy(harm, drop, most=1.0):
    """build gives the set of cheap layers itself; the judge adds up their harms and drops, and allows so much."""

    def judge(cheap):
        return Found(1.0 + sum(harm[layer] for layer in cheap), sum(drop[layer] for layer in cheap) <= most)

    return lambda cheap: cheap, judge


def test_the_layer_with_least_harm_by_byte_goes_first_and_one_too_many_is_left_out():
    # by byte: c 0.001, a 0.01, b 0.1; by harm alone a would go first
    harm, saved = {"a": 0.1, "b": 0.2, "c": 0.15}, {"a": 10, "b": 2, "c": 150}
    build, judge = toy(harm, {"a": 0.004, "b": 0.001, "c": 0.003}, 0.004)
    chosen, rows = assign(saved, build, judge)
    assert chosen == {"c", "b"}  # a would bring it to 0.007, b still fits
    assert [row.layer for row in rows] == ["c", "a", "b"] and [row.cheap for row in rows] == [True, False, True]
    assert rows[0].harm == pytest.approx(0.15)


@pytest.mark.parametrize(("most", "count"), [(0.0, 0), (0.01, 1), (0.02, 2), (1.0, 3)])
def test_more_is_allowed_more_layers_are_cheap(most, count):
    build, judge = toy(dict.fromkeys("abc", 0.1), dict.fromkeys("abc", 0.01), most)
    assert len(assign(dict.fromkeys("abc", 8), build, judge)[0]) == count


def test_a_layer_that_helps_by_chance_goes_before_all_others():
    build, judge = toy({"a": 0.1, "b": -0.2}, {"a": 0.0, "b": 0.0})
    assert [row.layer for row in assign({"a": 1, "b": 1000}, build, judge)[1]] == ["b", "a"]


def test_the_judge_finds_no_harm_in_the_file_itself_and_the_paired_drop_in_another():
    model, x = conv_net(), inputs(40)
    logits = Judge(model, Samples(x, np.zeros(40, np.int64), np.arange(40)), 0.0).expected
    labels = logits.argmax(1)
    worse, other_class = conv_net(), (labels[0] + 1) % 3
    head = next(item for item in worse.graph.initializer if item.name == "head.bias")
    bias = numpy_helper.to_array(head).copy()
    bias[other_class] += np.median(logits.max(1) - logits[:, other_class])  # wins half of the time
    head.CopyFrom(numpy_helper.from_array(bias, "head.bias"))
    judge = Judge(model, Samples(x, labels, np.arange(40)), 0.0)
    same, other = judge(model), judge(worse)
    assert (same.accuracy, same.accuracy_drop, same.harm) == (1, 0, 0)
    changed = (Judge(worse, judge.samples, 0.0).expected.argmax(1) != labels).mean()
    assert other.accuracy_drop == pytest.approx(changed) and other.harm > 0
    assert 0 < other.accuracy_drop < other.accuracy_drop_upper95
    assert same.inside and not other.inside
    # of the class that loses most
    lost = [
        (Judge(worse, judge.samples, 0.0).expected.argmax(1) != labels)[labels == own].mean() for own in set(labels)
    ]
    assert other.class_recall_drop == pytest.approx(max(lost))
    assert other.integer_op_share == 0
    assert 0 < same.size_bytes < model.ByteSize()


def test_the_divergence_by_hand():
    expected, found = np.log([[0.5, 0.5]]), np.log([[0.25, 0.75]])
    assert divergence(expected, found) == pytest.approx(0.5 * np.log(2) + 0.5 * np.log(2 / 3))
    assert divergence(expected, expected + 3) == pytest.approx(0)
