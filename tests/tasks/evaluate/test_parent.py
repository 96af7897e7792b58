"""A pruned model that is slower than the one it was made from, as evaluate judges it."""

import numpy as np
import pytest
from toy import blobs, card

from tasks.evaluate import gate
from tasks.evaluate.behaviour import compare
from tasks.evaluate.elsewhere import Elsewhere
from tasks.evaluate.figures import quality
from tasks.evaluate.judgement import Measured, ancestors, checks_of
from tasks.evaluate.variants import PARENTS, Cost
from tasks.measure.timing import Timing
from tasks.params import Budget


def judged(variant="pruned", **took):
    """The checks of `variant`; every file answers alike. took: ms, of other files than these."""
    targets = blobs(300).targets(slice(None)).numpy()
    latency = {"teacher": 4.0, "student_alone": 0.1, "student": 1.0, "pruned": 1.0, "quantized": 1.0, **took}
    answers, classes = dict.fromkeys(PARENTS, np.eye(3)[targets]), card((4,)).classes
    measured = {
        name: Measured(
            quality(targets, targets, 3),
            compare(name, answers, targets, classes, {}),
            Cost(1000, 100, 100, Timing(*[latency[name]] * 7)),
            1.0,
            Elsewhere(),
        )
        for name in PARENTS
    }
    return checks_of(variant, measured, card((4,)), 300, Budget(max_accuracy_drop=0.5, max_class_recall_drop=0.5))


@pytest.mark.parametrize(("pruned_ms", "verdict"), [(0.5, "pass"), (1.0, "pass"), (1.2, "fail"), (3.9, "fail")])
def test_a_pruned_model_slower_than_its_student_is_reported_and_never_passes(pruned_ms, verdict):
    """Nothing else is wrong with it, and it is faster than the teacher."""
    checks = judged(pruned=pruned_ms)
    assert gate.overall(checks) == verdict
    (own,) = [check for check in checks if check.name == "latency_ms_p50_vs_parent"]
    assert (own.verdict, own.value) == (verdict, pruned_ms) and own.note.startswith("student takes 1.0000 ms")
    assert all(check.verdict == "pass" for check in checks if check is not own)


@pytest.mark.parametrize(
    ("variant", "took", "fastest", "verdict"),
    [
        ("quantized", {"pruned": 3.0, "quantized": 3.0}, "student", "fail"),  # as slow as its parent, which is refused
        ("quantized", {"pruned": 3.0, "quantized": 1.04}, "student", "pass"),
        ("quantized", {"pruned": 0.5, "quantized": 0.6}, "pruned", "fail"),
        ("quantized", {"teacher": 0.4, "quantized": 0.5}, "teacher", "fail"),
        ("pruned", {"teacher": 0.9, "pruned": 0.94}, "teacher", "pass"),
        ("student", {"teacher": 0.9}, "teacher", "fail"),
    ],
)
def test_each_file_is_held_against_the_fastest_that_it_was_made_from(variant, took, fastest, verdict):
    checks = judged(variant, **took)
    (own,) = [check for check in checks if check.name == "latency_ms_p50_vs_parent"]
    assert own.note.startswith(f"{fastest} takes ") and own.verdict == gate.overall(checks) == verdict


def test_the_chain_of_parents():
    assert [ancestors(name) for name in PARENTS] == [
        [], [], ["teacher"], ["student", "teacher"], ["pruned", "student", "teacher"]
    ]  # fmt: skip
