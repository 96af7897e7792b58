"""Planted models: as accurate as the reference, and worse for someone."""

import numpy as np
import pandas as pd
import pytest

from tasks.evaluate import gate
from tasks.evaluate.behaviour import behaviour_checks, compare, unbound
from tasks.evaluate.groups import compare_groups, slice_members
from tasks.params import Budget

BUDGET = Budget(max_ece_increase=None, max_negative_flips=None, min_agreement=None)
CLASSES = ("cat", "dog", "eel")


def probabilities(answers):
    return np.eye(3)[answers]


def planted(per_class=400, lost=40):
    """The teacher is wrong on `lost` of each class; the small model mends cats and dogs, and loses eels."""
    targets = np.repeat([0, 1, 2], per_class)
    teacher, small = targets.copy(), targets.copy()
    for label in (0, 1, 2):
        teacher[np.flatnonzero(targets == label)[:lost]] = (label + 1) % 3
    small[np.flatnonzero(targets == 2)[: 3 * lost]] = 0
    return targets, {"teacher": probabilities(teacher), "pruned": probabilities(small)}


def by_name(checks):
    return {check.name: check for check in checks}


def test_a_model_that_keeps_accuracy_and_loses_one_class_fails_with_the_class_named():
    targets, answers = planted()
    found = compare("pruned", answers, targets, CLASSES, {})
    assert found.drop.drop == 0 and gate.accuracy_check(found.drop, 1200, Budget(max_accuracy_drop=0.02)).value < 0.02
    check = by_name(behaviour_checks(found, BUDGET, 1200))["class_mcnemar_p"]
    assert check.verdict == "fail" and check.value < 1e-9
    assert check.note == "class eel lost 20.00 pp of 400 samples"
    lost = [one.drop for one in found.classes]
    recall = gate.class_check(lost, [400] * 3, CLASSES, 0.05)
    assert recall.verdict == "fail" and "class eel" in recall.note


def test_a_model_that_loses_one_slice_fails_with_the_slice_named():
    targets = np.tile([0, 1, 2], 400)
    night = np.arange(1200) < 300
    teacher, small = targets.copy(), targets.copy()
    teacher[-30:] = (targets[-30:] + 1) % 3
    small[:30] = (targets[:30] + 1) % 3
    answers = {"teacher": probabilities(teacher), "pruned": probabilities(small)}
    found = compare("pruned", answers, targets, CLASSES, {"time=day": ~night, "time=night": night})
    checks = by_name(behaviour_checks(found, BUDGET, 1200))
    assert found.drop.drop == 0 and checks["class_mcnemar_p"].verdict == "pass"
    for name in ("slice_mcnemar_p", "slice_drop"):
        assert checks[name].verdict == "fail" and "time=night" in checks[name].note and "day" not in checks[name].note


def test_a_slice_too_small_is_inconclusive_and_named():
    targets, rare = np.tile([0, 1, 2], 100), np.arange(300) < 49
    same = {"teacher": probabilities(targets), "pruned": probabilities(targets)}
    found = compare("pruned", same, targets, CLASSES, {"rare": rare, "other": ~rare})
    check = by_name(behaviour_checks(found, BUDGET, 300))["slice_drop"]
    assert check.verdict == "inconclusive" and "not testable with fewer than 50 samples: rare (49)" in check.note
    rare = np.arange(300) < 50
    found = compare("pruned", same, targets, CLASSES, {"rare": rare, "other": ~rare})
    assert by_name(behaviour_checks(found, BUDGET, 300))["slice_drop"].verdict == "pass"


def test_a_class_whose_whole_loss_could_be_chance_is_inconclusive():
    """Three classes: 2 * 0.5^6 * 3 is 0.09, and 2 * 0.5^7 * 3 is 0.047."""
    for size, verdict in ((6, "inconclusive"), (7, "pass")):
        groups = [
            gate.Group("a", 100, 0.0, 1.0, 0.9),
            gate.Group("b", 100, 0.0, 1.0, 0.9),
            gate.Group("c", size, 0.0, 1.0, 0.9),
        ]
        check = gate.significance_check("class", groups, 0.02)
        assert check.verdict == verdict and ("c (6)" in check.note) == (size == 6)


def test_a_loss_that_may_be_chance_is_no_failure_and_is_said():
    check = gate.significance_check(
        "class", [gate.Group("a", 35, 0.029, 1.0, 0.9), gate.Group("b", 35, 0.0, 1.0, 0.9)], 0.02
    )
    assert (check.verdict, check.value, check.note) == ("pass", 1.0, "class a lost 2.90 pp of 35 samples")


@pytest.mark.parametrize(
    ("value", "samples", "verdict"),
    [(0.98, 400, "pass"), (0.97, 400, "pass"), (0.969, 400, "fail"), (1.0, 33, "inconclusive")],
)
def test_floors_need_enough_samples_for_one_to_be_allowed(value, samples, verdict):
    assert gate.floor_check("agreement", value, 0.97, samples, "").verdict == verdict
    assert gate.ceiling_check("negative_flips", 1 - value, 0.03, samples, "").verdict == verdict


def test_agreement_flips_and_calibration_by_hand(tmp_path):
    targets = np.repeat([0, 1], 100)
    teacher, small = targets.copy(), targets.copy()
    small[:6], teacher[100:102] = 2, 0  # six lost, two gained
    answers = {name: probabilities(teacher) for name in ("teacher", "pruned")} | {"quantized": probabilities(small)}
    found = compare("quantized", answers, targets, CLASSES, {})
    assert found.agreement == found.parent_agreement == 0.96
    assert unbound(found, tmp_path) is found
    (tmp_path / "training.csv").touch()  # training followed quantization
    free = unbound(found, tmp_path)
    assert "parent_agreement" not in [check.name for check in behaviour_checks(free, Budget(), len(targets))]
    assert (found.drop.negative_flips, found.drop.positive_flips) == (0.03, 0.01)
    assert found.ece_increase == pytest.approx(0.02)  # all sure: 0.03 wrong, and 0.01 of the teacher's
    verdicts = {check.name: check.verdict for check in behaviour_checks(found, Budget(max_significant_drop=None), 200)}
    assert verdicts == dict.fromkeys(("agreement", "parent_agreement", "negative_flips", "ece_increase"), "fail")
    nothing = Budget(
        max_significant_drop=None, max_slice_drop=None, min_agreement=None, min_parent_agreement=None,
        max_negative_flips=None, max_ece_increase=None,
    )  # fmt: skip
    assert behaviour_checks(found, nothing, 200) == []


def test_groups_are_adjusted_together():
    """Nine lost of a: exact p 2 / 2^9; two groups, so twice that."""
    reference = np.ones(100, bool)
    right = np.arange(100) >= 9
    a = np.arange(100) < 50
    first, second = compare_groups({"a": a, "b": ~a}, reference, right)
    assert (first.samples, first.drop, first.p) == (50, 0.18, pytest.approx(4 / 2**9))
    assert (second.drop, second.p) == (0, 1)


def test_slices_of_the_test_samples_by_value_with_missing_and_absent_ones():
    table = pd.DataFrame({"site": ["a", "b", None, "a", "c"], "number": range(5)})
    members = slice_members(table, ["site"], np.array([0, 2, 3]))
    assert {name: inside.tolist() for name, inside in members.items()} == {
        "site=a": [True, False, True],
        "site=b": [False, False, False],
        "site=c": [False, False, False],
        "site=missing": [False, True, False],
    }


def test_a_column_that_is_none_of_slices_is_refused():
    table = pd.DataFrame({"number": range(60)})
    with pytest.raises(ValueError, match=r"evaluate\.slices: table\.parquet has no 'site'; it has number"):
        slice_members(table, ["site"], np.arange(3))
    with pytest.raises(ValueError, match="'number' has 60 values; name a column of at most 50"):
        slice_members(table, ["number"], np.arange(3))
