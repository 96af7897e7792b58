import pytest
import torch

from tasks.prune.allocation import Sensitivity, allocate, measured, ranked


def point(layer, ratio, loss):
    return Sensitivity(layer, ratio, loss, 0.0)


def left(ratios):
    """Two layers that cost the same."""
    return 1 - sum(ratios.values()) / 2


SCAN = [point("a", 0.5, 3.0), point("b", 0.5, 2.1)]  # from a loss of 2: a rises by 1, b by a tenth of that


def test_all_layers_give_way_to_the_same_rise():
    """b is at its end at a rise of 0.1; a gives the rest of the 0.8 at a rise of 0.6."""
    assert allocate(SCAN, 2.0, left, 0.6) == pytest.approx({"a": 0.3, "b": 0.5}, abs=1e-4)


def test_below_its_end_the_tolerant_layer_gives_ten_times_as_much():
    found = allocate(SCAN, 2.0, left, 0.8)
    assert found["b"] == pytest.approx(10 * found["a"], rel=1e-3)
    assert sum(found.values()) == pytest.approx(0.4, abs=1e-4)


@pytest.mark.parametrize("target", [0.55, 0.6, 0.7, 0.9, 0.99])
def test_the_target_is_met_and_not_overshot(target):
    assert target - 1e-3 < left(allocate(SCAN, 2.0, left, target)) <= target


def test_the_order_of_the_scan_does_not_matter():
    scan = [point("a", 0.25, 2.1), point("a", 0.5, 2.4), *SCAN[1:]]
    assert allocate(scan, 2.0, left, 0.7) == allocate([scan[1], scan[0], scan[2]], 2.0, left, 0.7)


def test_a_layer_whose_pruning_helps_goes_first():
    scan = [point("a", 0.5, 1.0), point("b", 0.5, 2.5)]  # pruning a lowers the loss of 2
    found = allocate(scan, 2.0, left, 0.8)
    assert found == pytest.approx({"a": 0.4, "b": 0.0}, abs=0.11) and found["b"] < 1e-3


def test_a_dip_after_a_rise_counts_as_no_further_rise():
    scan = [point("a", 0.25, 2.5), point("a", 0.5, 2.2), point("b", 0.5, 9.0)]
    found = allocate(scan, 2.0, left, 0.75)
    assert found["a"] == pytest.approx(0.5, abs=0.05)
    before_the_dip = allocate(scan, 2.0, left, 0.9)  # at a rise of 0.35, which a first reaches at 0.175
    assert before_the_dip == pytest.approx({"a": 0.175, "b": 0.025}, abs=1e-3)


def test_steps_in_the_cost_are_respected():
    """As with channels that go four at a time: the cost does not move until enough of them do."""

    def coarse(ratios):
        return 1 - sum(0.5 * (ratio >= 0.4) for ratio in ratios.values()) / 2

    found = allocate(SCAN, 2.0, coarse, 0.8)
    assert found["b"] == pytest.approx(0.4, abs=1e-3) and coarse(found) == 0.75


def test_an_unreachable_target_says_the_best_found():
    message = "^prune.target is 0.4; the largest ratios scanned leave 0.500; raise it or scan higher$"
    with pytest.raises(ValueError, match=message):
        allocate(SCAN, 2.0, left, 0.4)


SCORES = {"a": torch.tensor([1.0, 2, 3, 4]), "b": torch.tensor([0.1, 0.2, 0.3, 5]), "c": torch.tensor([9.0, 8, 7, 6])}


def lost(ratios):
    """12 channels that cost the same."""
    return 1 - sum(ratios.values()) / 3


def test_where_all_are_of_one_kind_the_lowest_of_all_go():
    assert ranked(SCORES, dict.fromkeys(SCORES, ""), lost, 0.5) == {"a": 0.75, "b": 0.75, "c": 0.0}


def test_of_every_kind_the_same_share_goes_the_lowest_of_its_own():
    assert ranked(SCORES, {"a": "x", "b": "x", "c": "y"}, lost, 0.5) == {"a": 0.25, "b": 0.75, "c": 0.5}


def test_of_the_measured_plans_the_largest_within_the_target_is_taken():
    """Halving from 0.2 to 1: 0.6 costs too much, 0.4 does not, nor does 0.5, 0.55 does, nor 0.525."""
    asked = []

    def cost(plan):
        asked.append(round(plan["share"], 4))
        return plan["share"]

    assert measured(lambda share: {"share": share}, 0.2, cost, 0.53)["share"] == pytest.approx(0.525)
    assert asked == [0.2, 0.6, 0.4, 0.5, 0.55, 0.525]
