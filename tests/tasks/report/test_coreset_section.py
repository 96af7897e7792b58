"""What the reduction kept: its classes, its figures, its verdict."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest

from tasks.report.coreset import coreset_section
from tasks.report.html import render_report

Run = tuple[dict[str, Any], dict[str, Any]]
HOSTILE = "<script>alert('x')</script>"


def spread(mean: float) -> list[float]:
    return [mean, 0.01]


def kept_set(accuracy: float, trainings: int = 3) -> dict[str, Any]:
    figures = {"accuracy": spread(accuracy), "worst_class_recall": spread(0.7), "gap": spread(-0.02)}
    figures |= {"calibration_error": spread(0.123), "corruption_drop": spread(0.05)}
    if trainings == 1:
        figures = {key: [mean, None] for key, (mean, _) in figures.items()}
    return {"samples": 30, "models": {name: {"trainings": trainings, **figures} for name in ("cnn", "wide_mlp")}}


def judged(gain: float, half_width: float) -> dict[str, Any]:
    beats = gain > half_width
    figure = f"{100 * gain:.2f} +/- {100 * half_width:.2f} pp"
    verdict = f"beats random by {figure}" if beats else f"does not beat random ({figure})"
    sets = {"chosen": kept_set(0.8 + gain), "random": kept_set(0.8), "full": kept_set(0.95, trainings=1)}
    judge = {"beats": beats, "gain": gain, "half_width95": half_width, "steps": 1000, "sets": sets, "runs": []}
    return {"verdict": verdict, "judge": judge}


@pytest.fixture
def report() -> dict[str, Any]:
    return {
        "method": "herding",
        "taken": "herding",
        "samples": 30,
        "of": 100,
        "per_class": {"a": 5, "b": 20, "c": 5},
        "per_class_of": {"a": 50, "b": 40, "c": 10},
        "coverage_radius": 3.21,
        "mmd": 0.0123,
        "two_sample_auc": 0.567,
        "near_duplicates": 0.25,
        **judged(0.02, 0.005),
    }


def text(run: Run, report: dict[str, Any]) -> str:
    page = render_report(run[0], run[1] | {"coreset": report})
    plain = re.sub(r"<[^>]+>", " ", re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.S))
    return re.sub(r"\s+", " ", unescape(plain)).replace("\u2212", "-")


def test_every_figure_stands_on_the_page(run: Run, report: dict[str, Any]) -> None:
    shown = text(run, report)
    for words in (
        *("What the reduction kept", "herding kept 30 of 100 training samples", "share kept of all, 30.0 %"),
        *("MMD 0.0123", "two-sample AUC 0.567", "coverage radius 3.21", "near-duplicates 25.00 %"),
        *("pass", "herding beats random by 2.00 ± 0.50 pp", "Small networks, 1,000 steps each"),
        "accuracy worst class train\u2013validation gap drop under corruptions calibration error",
        "chosen cnn 30 3 82.00 ± 1.00 70.00 ± 1.00 -2.00 ± 1.00 5.00 ± 1.00 0.12",
        *("random, stratified wide mlp 30 3 80.00 ± 1.00", "all samples cnn 30 1 95.00 70.00 -2.00 5.00 0.12"),
    ):
        assert words in shown


def test_bars_are_as_long_as_the_share_kept_of_each_class(report: dict[str, Any]) -> None:
    chart = coreset_section(report)["chart"]  # type: ignore[index]
    assert [name for _, name in chart.y_ticks] == ["a", "b", "c"]  # 10 %, 50 %, 50 %
    lengths = [mark.x - chart.left for mark in chart.marks]
    assert lengths[1] == lengths[2] == pytest.approx(5 * lengths[0], abs=1)
    assert chart.marks[0].tip == "a\nkept 5 of 50, 10.0 %"
    (front,) = [stroke for stroke in chart.strokes if stroke.kind == "front"]
    assert float(front.path[1:].split()[0]) - chart.left == pytest.approx(3 * lengths[0], abs=1)  # 30 % of all


def test_dots_lie_where_the_features_put_them_and_say_what_they_are(run: Run, report: dict[str, Any]) -> None:
    places = [(-2.0, 0.0, True), (0.0, 1.0, False), (2.0, 0.5, True)]
    rows = [{"x": x, "y": y, "class": HOSTILE, "kept": kept} for x, y, kept in places]
    chart = coreset_section(report | {"embedding": rows, "embedding_variance": 0.431})["dots"]  # type: ignore[index]
    dropped, kept = chart.clouds
    assert [tip for _, _, tip in kept.dots] == [f"{HOSTILE}\nkept"] * 2 and dropped.dots[0][2] == f"{HOSTILE}\ndropped"
    assert kept.dots[0][0] < dropped.dots[0][0] < kept.dots[1][0]
    assert kept.dots[0][1] > kept.dots[1][1] > dropped.dots[0][1]  # y grows upwards
    assert "hold 43 % of their variance" in chart.note
    page = render_report(run[0], run[1] | {"coreset": report | {"embedding": rows}})
    assert page.count('r="2.8"') == 3 and page.count("<script>") == 1


def test_bounds_that_were_expected_stand_beside_the_figures(run: Run, report: dict[str, Any]) -> None:
    report["expected"] = {
        "two_sample_auc": {"value": 0.567, "max": 0.95},
        "smallest_class": {"value": 5, "min": 1},
        "class_share_change": {"value": 0.333, "max": 0.25},
    }
    shown = text(run, report)
    assert "0.5: not at all; expected at most 0.95" in shown
    assert "smallest class 5 kept samples; expected at least 1" in shown
    assert "class shares 33.30 % largest change of a class's share, in points; expected at most 25 %" in shown


def test_of_many_classes_the_least_like_the_whole_are_shown(report: dict[str, Any]) -> None:
    names = [f"class {i}" for i in range(100)]
    report |= {"per_class": dict.fromkeys(names, 30), "per_class_of": dict.fromkeys(names, 100)}
    report["per_class"]["class 77"] = 1
    chart = coreset_section(report)["chart"]  # type: ignore[index]
    assert len(chart.marks) == 30 and chart.y_ticks[0][1] == "class 77" and "30 classes farthest" in chart.note


def test_a_fallback_is_said(run: Run, report: dict[str, Any]) -> None:
    shown = text(run, report | {"taken": "stratified"} | judged(-0.014, 0.03))
    assert "stratified kept 30 of 100" in shown and "the stratified draw was taken instead" in shown
    assert "herding does not beat random (-1.40 ± 3.00 pp)" in shown and "inconclusive" in shown


def test_what_the_stage_left_out_is_left_out(run: Run, report: dict[str, Any]) -> None:
    for key in ("judge", "verdict", "two_sample_auc", "per_class_of", "taken"):
        del report[key]
    shown = text(run, report | {"note": "the hardest 10 % alone teach less"})
    assert "The hardest 10 % alone teach less." in shown and "coverage radius 3.21" in shown
    for absent in ("random draw", "two-sample", "Kept of each class", "None", "Undefined"):
        assert absent not in shown


def test_without_a_report_there_is_no_section(run: Run) -> None:
    assert "What the reduction kept" not in text(run, {}) and coreset_section({"method": "k_center"}) is None


def test_names_from_the_data_cannot_run(run: Run, report: dict[str, Any]) -> None:
    report |= {"per_class": {HOSTILE: 3}, "per_class_of": {HOSTILE: 9}, "note": HOSTILE}
    page = render_report(run[0], run[1] | {"coreset": report})
    assert page.count("<script>") == 1 and not re.search(r"https?://|url\(|\ssrc=", page)
