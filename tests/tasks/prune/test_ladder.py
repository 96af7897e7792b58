"""Down the ladder: which rung is handed on, on a model whose size is a number."""

import numpy as np
import pytest
import torch
from torch import nn

from tasks.data.batches import Samples
from tasks.measure.budget import Limits
from tasks.prune.allocation import NothingToCut, Unreachable
from tasks.prune.diary import Entry, judge_of
from tasks.prune.ladder import climb

SHARES = (0.8, 0.5, 0.3, 0.1)


class Sized(nn.Module):
    """A model of so many multiply-accumulates."""

    def __init__(self, size=1000):
        super().__init__()
        self.size = size


def entry(step, aim, inside):
    return Entry(step, aim, 0, 0, 0.0, 0.9, 0.0, 0.0, 0.0, inside)


def walk(inside, shares=SHARES, floor=0, whole=1):
    """climb, with what was asked of each cut, and the entries' aims."""
    asked = []

    def cut_(model, share):
        asked.append(round(share * 1000))
        if asked[-1] < floor:
            raise Unreachable(share, floor / 1000, "too small")
        model.size = asked[-1] // whole * whole

    def recover_(model, step, aim):
        return entry(step, aim, inside(model.size))

    start = Sized()
    best, entries = climb(start, shares, lambda model: model.size, cut_, recover_)
    assert start.size == 1000
    return best, entries, asked


def test_the_smallest_inside_is_handed_on_and_the_first_outside_ends_it():
    best, entries, asked = walk(lambda size: size >= 450)
    assert best.size == 500 and asked == [800, 500, 300]
    assert [(row.step, row.aim, row.inside) for row in entries] == [
        ("rung 1", 0.8, True),
        ("rung 2", 0.5, True),
        ("rung 3", 0.3, False),
    ]


def test_where_all_are_inside_the_last_is_handed_on():
    best, entries, _ = walk(lambda size: True)
    assert best.size == 100 and len(entries) == 4


def test_where_none_is_inside_the_model_itself_is():
    best, entries, asked = walk(lambda size: False)
    assert best.size == 1000 and len(entries) == 1 and asked == [800]


def test_a_rung_that_no_cut_reaches_ends_it():
    best, entries, _ = walk(lambda size: True, floor=400)
    assert best.size == 500 and len(entries) == 2


def test_a_rung_for_which_nothing_is_left_to_cut_ends_it_and_another_mistake_is_raised():
    def cutting(error):
        def cut_(model, share):
            if share < 0.5:
                raise error
            model.size = round(1000 * share)

        return climb(Sized(), SHARES, lambda model: model.size, cut_, lambda *given: entry(*given[1:], True))

    best, entries = cutting(NothingToCut("no block can be removed"))
    assert best.size == 500 and len(entries) == 2
    with pytest.raises(ValueError, match="gone wrong"):
        cutting(ValueError("gone wrong"))


def test_a_rung_that_the_one_before_has_passed_is_left_out():
    best, entries, asked = walk(lambda size: True, shares=(0.5, 0.45, 0.3), whole=400)
    assert asked == [500, 300] and [row.aim for row in entries] == [0.5, 0.3] and best.size == 0


class Fixed(nn.Module):
    """Its logits, whatever comes in, by the number that each sample holds."""

    def __init__(self, labels):
        super().__init__()
        self.weight = nn.Parameter(nn.functional.one_hot(torch.tensor(labels), 2).float())

    def forward(self, x):
        return self.weight[x[:, 0].long()]


def test_an_entry_by_hand():
    """Of 100 samples, 60 of class 0; the teacher has all right, the model not the first three."""
    truth = [0] * 60 + [1] * 40
    samples = Samples(np.arange(100, dtype=np.float32)[:, None], np.array(truth), np.arange(100))
    teacher, model = Fixed(truth), Fixed([1] * 3 + truth[3:])
    found = judge_of(teacher, samples, Limits(0.08, 0.05))(model, "rung 1", 0.8)
    assert (found.accuracy, found.accuracy_drop) == pytest.approx((0.97, 0.03))
    assert found.class_recall_drop == pytest.approx(3 / 60)
    z = 1.6449  # without a gain the limit is Wilson's
    wilson = (0.03 + z**2 / 200 + z * (0.03 * 0.97 / 100 + z**2 / 40_000) ** 0.5) / (1 + z**2 / 100)
    assert found.accuracy_drop_upper95 == pytest.approx(wilson, abs=1e-4)
    assert found.inside and found.parameters == 200 and found.sparsity == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("limits", "inside"),
    [
        (Limits(0.05, None), False),  # the limit of the drop, not the drop
        (Limits(0.08, None), True),
        (Limits(0.08, 0.04), False),
        (Limits(0.08, 0.05), True),
    ],
)
def test_the_budget_decides_by_both_drops(limits, inside):
    truth = [0] * 60 + [1] * 40
    samples = Samples(np.arange(100, dtype=np.float32)[:, None], np.array(truth), np.arange(100))
    assert judge_of(Fixed(truth), samples, limits)(Fixed([1] * 3 + truth[3:]), "", 1.0).inside is inside
