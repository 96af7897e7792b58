import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from tasks.distill.comparison import compare, interval
from tasks.measure.paired import mcnemar

NAMES = ("a", "b", "c")
TARGETS = np.arange(300) % 3


def answers(wrong):
    """Labels that are wrong at these positions only, by one class."""
    found = TARGETS.copy()
    found[wrong] = (found[wrong] + 1) % 3
    return found


def compared(teacher, alone, student, names=NAMES, **way):
    return compare(TARGETS, answers(teacher), [answers(a) for a in alone], [answers(s) for s in student], names, **way)


def first(count):
    return np.arange(count)


def test_one_seed_by_hand():
    """Wrong of 300: teacher 15, alone 60, student 30, all where the student alone is wrong too."""
    found = compared(first(15), [first(60)], [first(30)])
    assert (found.accuracy_teacher, found.accuracy_alone, found.accuracy_student) == pytest.approx((0.95, 0.8, 0.9))
    assert found.gain == pytest.approx(0.1) and found.gap_closed == pytest.approx(2 / 3)
    assert found.p == mcnemar(0, 30) and found.helped and found.seeds == 1
    assert found.agreement == pytest.approx(285 / 300)  # the teacher is right in 15 where the student is not
    lacking = (found.gain_low, found.gain_high, found.gap_closed_low, found.gap_closed_high)
    assert lacking == (None, None, None, None)


def test_agreement_is_with_the_teacher_s_labels_mistakes_included():
    found = compared(first(30), [first(60)], [first(30)])
    assert found.agreement == 1 and found.accuracy_student < 1


def test_the_interval_over_seeds_by_scipy():
    alone, student = [60, 66, 54, 63], [42, 45, 30, 51]
    found = compared(first(15), [first(n) for n in alone], [first(n) for n in student])
    gains = (np.array(alone) - np.array(student)) / 300
    expected = stats.t.interval(0.95, 3, gains.mean(), stats.sem(gains))
    gap = np.mean(alone) / 300 - 0.05
    assert (found.gain_low, found.gain_high) == pytest.approx(expected)
    assert found.gain == pytest.approx(gains.mean()) and found.gap_closed == pytest.approx(gains.mean() / gap)
    assert (found.gap_closed_low, found.gap_closed_high) == pytest.approx([limit / gap for limit in expected])
    assert found.seeds == 4 and found.p == mcnemar(0, 18)
    assert found.accuracy_student == pytest.approx(1 - np.mean(student) / 300)


def test_one_value_has_no_interval_and_equal_ones_have_no_width():
    assert interval(np.array([0.3])) == (None, None)
    assert interval(np.array([0.25, 0.25, 0.25])) == (0.25, 0.25)


@pytest.mark.parametrize(
    ("alone", "student", "helped"),
    [
        ([60], [30], True),
        ([60], [57], False),  # better, but three samples tell nothing
        ([30], [60], False),  # surely worse
        ([60, 60, 60], [40, 41, 42], True),
        ([60, 60, 60], [40, 59, 62], False),  # the interval holds zero
        ([40, 41, 42], [60, 60, 60], False),
    ],
)
def test_it_helped_where_the_gain_is_sure(alone, student, helped):
    found = compared(first(15), [first(n) for n in alone], [first(n) for n in student])
    assert found.helped == helped
    assert found.sentence().startswith("distillation helped" if helped else "distillation did not help here")


@pytest.mark.parametrize("alone", [15, 10])
def test_where_the_teacher_is_no_better_there_is_no_gap(alone):
    found = compared(first(15), [first(alone)] * 2, [first(5), first(14)])
    assert found.gap_closed is found.gap_closed_low is found.gap_closed_high is None
    assert found.gain_low is not None and not found.helped
    assert found.sentence() == (
        f"distillation did not help here: the student alone is as good as the teacher ({100 - alone / 3:.2f} %), "
        "nothing to close"
    )


def test_a_student_that_gained_without_a_gap_was_helped():
    """Networks of one kind can teach each other: Furlanello et al. 2018, arXiv:1805.04770."""
    found = compared(first(15), [first(15)] * 2, [first(5), first(6)])
    assert found.helped and found.gap_closed is None
    assert found.sentence() == (
        "distillation helped: 98.17 % against 95.00 % alone, +3.17 pp (95 % interval over 2 seeds +1.05 to +5.28), "
        "where there was no gap to the teacher's 95.00 % to close"
    )


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_student_that_no_teacher_taught_was_not_helped_whatever_it_gained_by_its_weights(seeds):
    found = compared(first(15), [first(60)] * seeds, [first(30)] * seeds, taught=False, inherited=True)
    spread = "McNemar p 1.2e-07" if seeds == 1 else "95 % interval over 2 seeds +10.00 to +10.00"
    limits = "" if seeds == 1 else " (interval 67 to 67)"
    assert not found.helped and found.gain == pytest.approx(0.1)
    assert found.sentence() == (
        "distillation did not help here: the probe chose the student alone, with the weights that it "
        f"inherited, 90.00 % against 80.00 % with fresh ones, +10.00 pp ({spread}), "
        f"67 %{limits} of the gap to the teacher's 95.00 % closed"
    )


def test_a_student_that_is_the_one_alone_says_so():
    found = compared(first(15), [first(60)], [first(60)], taught=False)
    assert not found.helped and found.gain == 0
    assert found.sentence() == (
        "distillation did not help here: the probe chose the student alone, 80.00 %, against the teacher's 95.00 %"
    )


def test_the_sentence_says_all_that_counts():
    single = compared(first(15), [first(60)], [first(30)]).sentence()
    assert single == (
        "distillation helped: 90.00 % against 80.00 % alone, +10.00 pp (McNemar p 1.2e-07), "
        "67 % of the gap to the teacher's 95.00 % closed"
    )
    several = compared(first(15), [first(60), first(60)], [first(60), first(66)]).sentence()
    assert several.startswith("distillation did not help here: 79.00 % against 80.00 % alone, -1.00 pp (95 % interval")
    assert several.endswith(
        "over 2 seeds -13.71 to +11.71), -7 % (interval -91 to 78) of the gap to the teacher's 95.00 % closed"
    )


def test_changes_by_class_are_recalls_and_holm_s_p():
    alone = np.r_[np.arange(0, 60, 3), np.arange(1, 31, 3)]  # 20 of a, 10 of b
    student = np.r_[np.arange(1, 16, 3), np.arange(2, 8, 3)]  # none of a, 5 of b, 2 of c
    found = compared(first(0), [alone, first(0)], [student, first(0)])
    assert [change.name for change in found.classes] == ["a", "b", "c"]
    assert [change.recall_alone for change in found.classes] == pytest.approx([0.8, 0.9, 1])
    assert [change.recall_student for change in found.classes] == pytest.approx([1, 0.95, 0.98])
    raw = [mcnemar(0, 20), mcnemar(0, 5), mcnemar(2, 0)]
    expected = multipletests(raw, method="holm")[1]
    assert [change.p_adjusted for change in found.classes] == pytest.approx(expected.tolist())


def test_a_class_without_samples_is_left_out():
    found = compared(first(0), [first(9)], [first(3)], names=("a", "b", "c", "d"))
    assert [change.name for change in found.classes] == ["a", "b", "c"]


def test_facts_are_all_of_it_with_the_sentence():
    found = compared(first(15), [first(60)], [first(30)])
    facts = found.facts()
    assert facts["sentence"] == found.sentence() and facts["gain"] == found.gain
    assert facts["classes"][0]["name"] == "a" and set(facts) == {*vars(found), "sentence"}
