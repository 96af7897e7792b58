"""What the judge allows: by the budget against the teacher, until the float file itself has used it up."""

import numpy as np
import pytest
from graphs import conv_net, inputs
from onnx import numpy_helper

from tasks.data.batches import Samples
from tasks.measure.budget import Limits
from tasks.quantize.judge import Judge, Remaining, logits

X = inputs(200)


def network(*more):
    """One that gives each class to some samples; `more` is added to the first logits."""
    made = conv_net()
    head = next(item for item in made.graph.initializer if item.name == "head.bias")
    bias = numpy_helper.to_array(head) - logits(made, Samples(X, np.zeros(200, np.int64), np.arange(200))).mean(0)
    bias[: len(more)] += more
    head.CopyFrom(numpy_helper.from_array(bias.astype(np.float32), "head.bias"))
    return made


LABELS = logits(network(), Samples(X, np.zeros(200, np.int64), np.arange(200))).argmax(1)
SPREAD = float(logits(network(), Samples(X, LABELS, np.arange(200))).std())
WORSE = network(SPREAD)


def judge(limits, wrong=0):
    """Of the network, where `wrong` of the labels are not what it says; the teacher is always right."""
    y = LABELS.copy()
    y[:wrong] = (y[:wrong] + 1) % 3
    return Judge(network(), Samples(X, y, np.arange(200)), Remaining(limits, np.ones(200, bool)))


def test_inside_is_the_upper_limit_of_the_drop_against_the_teacher():
    found = judge(Limits(1.0, None), wrong=4)(network())
    assert found.accuracy_drop == 0.02 < found.accuracy_drop_upper95  # what the float file has lost counts
    drop = judge(Limits(1.0, None))(WORSE)
    assert drop.accuracy_drop > 0 and not judge(Limits(drop.accuracy_drop, None))(WORSE).inside
    assert judge(Limits(drop.accuracy_drop_upper95, None))(WORSE).inside


def test_the_class_that_loses_most_counts_unless_its_limit_is_null():
    found = judge(Limits(1.0, 1.0))(WORSE)
    assert found.class_recall_drop > found.accuracy_drop
    assert judge(Limits(1.0, found.class_recall_drop))(WORSE).inside
    assert not judge(Limits(1.0, found.class_recall_drop - 0.001))(WORSE).inside
    assert judge(Limits(1.0, None))(WORSE).inside


def test_where_the_float_file_has_used_the_budget_up_its_files_must_lose_no_more():
    strict = judge(Limits(0.01, 0.01), wrong=20)
    assert strict.used_up and not judge(Limits(1.0, 1.0), wrong=20).used_up
    assert strict(network()).inside and not strict(WORSE).inside


def test_a_number_is_the_drop_against_the_float_file_whatever_the_teacher():
    samples = Samples(X, LABELS, np.arange(200))
    drop = Judge(network(), samples, 0.0)(WORSE).accuracy_drop
    assert drop > 0 and not Judge(network(), samples, 0.0).used_up
    for allowed in (drop, drop - 0.001):
        assert Judge(network(), samples, allowed)(WORSE).inside == (allowed == pytest.approx(drop))
