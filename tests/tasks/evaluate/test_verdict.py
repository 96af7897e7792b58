"""The sentence on top of the report."""

import pytest

from tasks.evaluate.judgement import verdict


def row(name, gate, size):
    figures = {"latency_ms_p50": 1.0, "accuracy": 0.9, "accuracy_drop_upper95": 0.01}
    return {"name": name, "gate": gate, "size_bytes": size, "checks": [], **figures}


@pytest.mark.parametrize(
    ("student", "final", "ending"),
    [
        ("pass", "pass", "with 95 % confidence."),
        ("pass", "fail", "with 95 % confidence. The candidate is student."),
        ("pass", "inconclusive", "with 95 % confidence. The candidate is student."),
        ("fail", "fail", "with 95 % confidence. No variant is a candidate."),
    ],
)
def test_the_candidate_is_named_where_it_is_not_the_final_model(student, final, ending):
    rows = [row("teacher", "reference", 100), row("student", student, 50), row("quantized", final, 10)]
    assert verdict(rows).endswith(ending)


def check(name, verdict, decides=None):
    return {"name": name, "verdict": verdict, "decides": decides}


def test_an_open_verdict_names_what_is_open_and_the_samples_that_would_decide():
    final = row("quantized", "inconclusive", 10)
    final["checks"] = [
        check("agreement", "pass"), check("accuracy_drop_upper95", "inconclusive", 4321),
        check("slice_drop", "inconclusive", 50), check("x", "inconclusive"),
    ]  # fmt: skip
    assert verdict([row("teacher", "reference", 100), final]).startswith(
        "The quantized model is not proven (accuracy_drop_upper95, 4,321 samples would decide; "
        "slice_drop, 50 samples would decide; x): "
    )


def test_a_failed_verdict_names_what_failed_alone():
    final = row("quantized", "fail", 10)
    final["checks"] = [check("agreement", "fail"), check("accuracy_drop_upper95", "inconclusive", 4321)]
    assert verdict([row("teacher", "reference", 100), final]).startswith(
        "The quantized model is NOT within the budget (agreement): "
    )
