"""The sentence on top of the report."""

import pytest

from tasks.evaluate.stage import _verdict


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
    assert _verdict(rows).endswith(ending)
