"""The terminal's table: complete, narrow, and frank about what failed."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.report.table import comparison_table

Run = tuple[dict[str, Any], dict[str, Any]]


def test_every_figure_of_a_variant_stands_in_its_row(run: Run) -> None:
    table = comparison_table(run[0])
    row = next(line for line in table.splitlines() if line.startswith("pruned"))
    assert " ".join(row.split()) == (
        "pruned 96.39 2.22 (3.12) 5.56 97.4 25.1 \u00d728 5.87 k 366 k 0.0520 \u00d77.9 84.3 k fail"
    )


def test_failed_checks_stand_in_a_line_each_and_passed_ones_do_not(run: Run) -> None:
    run[0]["variants"][4]["checks"][1] |= {"verdict": "inconclusive", "note": "12 samples"}
    table = comparison_table(run[0])
    assert "  pruned: fail: accuracy_drop 3.12 pp, limit 2.50 pp" in table.splitlines()
    assert "  quantized: inconclusive: class_recall_drop 8.33 pp, limit 10.00 pp (12 samples)" in table.splitlines()
    assert table.count(": fail:") == 5
    assert "pass:" not in table


def test_it_fits_120_columns_whatever_the_figures(run: Run) -> None:
    for variant in run[0]["variants"]:
        variant.update(accuracy_drop=-0.1234, accuracy_drop_upper95=0.1234, worst_class_recall_drop=-1.0)
        variant.update(size_bytes=variant["size_bytes"] * 9_000, latency_ms_p50=variant["latency_ms_p50"] * 2_000)
        variant.update(macs=9.99e11, parameters=9.99e8, throughput_per_s=9.99e5, gate="inconclusive")
        if variant["checks"]:
            variant["checks"][0].update(verdict="inconclusive", note="a long explanation " * 12)
    run[0]["verdict"] = "a long verdict " * 20
    assert max(map(len, comparison_table(run[0]).splitlines())) <= 120


def test_columns_line_up(run: Run) -> None:
    lines = comparison_table(run[0]).splitlines()[:8]
    gates = [
        line.rindex(gate) for line, gate in zip(lines[3:], ["reference", "fail", "fail", "fail", "pass"], strict=True)
    ]
    assert set(gates) == {lines[1].index("gate")}


def test_unmeasured_figures_are_dashes(run: Run) -> None:
    for variant in run[0]["variants"]:
        variant.update(latency_ms_p50=None, throughput_per_s=None, macs=None)
    assert "nan" not in comparison_table(run[0])


def test_a_reference_that_is_not_there_is_named(run: Run) -> None:
    run[0]["reference"] = "champion"
    with pytest.raises(
        ValueError, match="reference is 'champion', which is not among the variants teacher, student_alone"
    ):
        comparison_table(run[0])
