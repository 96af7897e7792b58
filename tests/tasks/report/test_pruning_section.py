"""How pruning went: the diary's figures, and nothing where there are none."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest

from tasks.report.html import render_report
from tasks.report.pruning import diary_table, sensitivity_chart

Run = tuple[dict[str, Any], dict[str, Any]]
HOSTILE = "<script>alert('x')</script>"


def entry(step: str, accuracy: float, inside: bool) -> dict[str, Any]:
    drop = 0.95 - accuracy
    figures = {"accuracy_drop": drop, "accuracy_drop_upper95": drop + 0.0123, "class_recall_drop": 0.0456}
    costs = {"macs": 61_706.0, "parameters": 5_432.0, "sparsity": 0.125}
    return {"step": step, "aim": 0.65, **costs, "accuracy": accuracy, **figures, "inside": inside}


def text(run: Run, **details: Any) -> str:
    page = render_report(run[0], run[1] | details)
    plain = re.sub(r"<[^>]+>", " ", re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.S))
    return re.sub(r"\s+", " ", unescape(plain)).replace("\u2212", "-")


def test_a_row_per_step_with_its_figures_and_verdict(run: Run) -> None:
    page = text(run, diary=[entry("rung 1", 0.955, True), entry("rung 2", 0.91, False)])
    assert "What pruning left, step by step" in page
    row = r"rung 1 65 % 61\.7 k 5\.43 k 12\.5 % 95\.50 % -0\.50 0\.73 4\.56 \S+ pass"
    assert re.search(row, page)
    assert re.search(r"rung 2 65 % .* 91\.00 % \+4\.00 5\.23 4\.56 \S+ fail", page)


def test_without_a_diary_there_is_no_table(run: Run) -> None:
    assert "What pruning left" not in text(run)


@pytest.mark.parametrize(("sparsity", "said"), [(0.0, False), (0.7, True)])
def test_zeros_that_stay_in_the_file_are_said_to_gain_no_speed(run: Run, sparsity: float, said: bool) -> None:
    page = text(
        run, diary=[entry("step 1", 0.9, True) | {"sparsity": 0.35}, entry("final", 0.9, True) | {"sparsity": sparsity}]
    )
    assert ("70.0 % of the weights are zeros that stay in their places: ONNX Runtime takes as long" in page) is said


def test_names_are_escaped(run: Run) -> None:
    page = render_report(run[0], run[1] | {"diary": [entry(HOSTILE, 0.9, True)]})
    assert HOSTILE not in page and "&lt;script&gt;" in page


@pytest.mark.parametrize("inside", [True, False])
def test_the_verdict_follows_the_budget(inside: bool) -> None:
    assert [row[2] for row in diary_table([entry("final", 0.9, inside)])] == ["pass" if inside else "fail"]


def test_one_point_per_block_is_a_chart_too() -> None:
    scan = [{"layer": name, "ratio": 1.0, "loss": 0.1, "accuracy": 0.5 + place / 10} for place, name in enumerate("ab")]
    chart = sensitivity_chart(scan)
    assert chart is not None and len(chart.strokes) + len(chart.marks) > 0
    assert sensitivity_chart([]) is None
