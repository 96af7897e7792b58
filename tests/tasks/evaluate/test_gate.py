import pytest

from tasks.evaluate.gate import Check, accuracy_check, class_check, limit_check, overall, parent_check
from tasks.measure.paired import Drop
from tasks.params import Budget

BUDGET = Budget(max_accuracy_drop=0.01)


def drop(value, upper95):
    return Drop(value, upper95, 0.0, 1.0, 0.01 + max(value, 0.0), 0.01 + max(-value, 0.0))


@pytest.mark.parametrize(
    ("value", "upper95", "verdict"),
    [
        (0.0, 0.004, "pass"),
        (0.005, 0.01, "pass"),
        (-0.02, 0.001, "pass"),
        (0.005, 0.0101, "inconclusive"),
        (-0.001, 0.02, "inconclusive"),
        (0.01, 0.02, "inconclusive"),
        (0.0101, 0.02, "fail"),
    ],
)
def test_accuracy_passes_by_its_upper_limit_and_fails_by_the_drop_itself(value, upper95, verdict):
    check = accuracy_check(drop(value, upper95), 400, BUDGET)
    assert (check.verdict, check.value, check.limit) == (verdict, upper95, 0.01)


def test_an_open_case_says_how_many_samples_would_decide():
    """One loss and one gain in a hundred: Wald would say 0.02 * (1.645 / 0.01)^2, 542."""
    check = accuracy_check(drop(0.0, 0.02), 400, BUDGET)
    assert check.note == (
        "drop 0.00 pp, at most 2.00 pp with 95 % confidence, 400 samples; "
        "with these disagreements 649 samples would decide"
    )


def test_the_class_that_lost_most_is_judged_and_named():
    check = class_check([0.0, 0.05, -0.1], [100, 100, 100], "abc", 0.02)
    assert (check.verdict, check.value, check.note) == ("fail", 0.05, "class b, 100 samples")
    assert class_check([0.0, 0.02, -0.1], [100, 100, 100], "abc", 0.02).verdict == "pass"


def test_a_loss_of_exactly_the_limit_is_within_it():
    """49 of 50 right, then 48: 0.98 - 0.96 is 0.02 and a rounding error."""
    assert class_check([49 / 50 - 48 / 50], [50], ["a"], 0.02).verdict == "pass"


def test_a_class_too_small_for_one_sample_to_be_within_the_limit_is_inconclusive():
    check = class_check([0.0, 0.0], [100, 49], "ab", 0.02)
    assert check.verdict == "inconclusive"
    assert check.note == "class a, 100 samples; the smallest class has 49 samples, 50 would decide"
    assert class_check([0.0, 0.0], [100, 50], "ab", 0.02).verdict == "pass"


def test_no_class_is_large_enough_for_a_limit_of_zero():
    check = class_check([0.0], [10**6], ["a"], 0.0)
    assert check.verdict == "inconclusive" and "no number of would decide" in check.note


def test_a_small_class_that_lost_too_much_fails_all_the_same():
    assert class_check([0.1, 0.0], [10, 10], "ab", 0.02).verdict == "fail"


@pytest.mark.parametrize(("value", "verdict"), [(99, "pass"), (100, "pass"), (101, "fail")])
def test_a_limit_may_be_reached_and_not_passed(value, verdict):
    assert limit_check("size_bytes", value, 100, "model.onnx").verdict == verdict


@pytest.mark.parametrize(("latency", "verdict"), [(1.0, "pass"), (2.09, "pass"), (2.11, "fail"), (9.0, "fail")])
def test_a_model_slower_than_its_parent_fails_beyond_the_clocks_tolerance(latency, verdict):
    check = parent_check(latency, 2.0, "pruned")
    assert check.verdict == verdict and check.limit == pytest.approx(2.1)
    assert check.note == "pruned takes 2.0000 ms; 5% is left for the clock"


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([], "pass"),
        (["pass", "pass"], "pass"),
        (["pass", "inconclusive"], "inconclusive"),
        (["inconclusive", "fail", "pass"], "fail"),
    ],
)
def test_one_failure_fails_and_one_open_case_leaves_it_open(verdicts, expected):
    assert overall([Check("name", 0, 0, verdict, "") for verdict in verdicts]) == expected
