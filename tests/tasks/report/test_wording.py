"""Figures keep three digits, never cut an integer, and say so when there is none."""

from __future__ import annotations

import pytest

from tasks.report.wording import DASH, byte_size, check_figure, check_name, percent, points, short, significant, times


@pytest.mark.parametrize(
    ("value", "shown"), [(0.01234, "0.0123"), (1.2345, "1.23"), (12.345, "12.3"), (1234.5, "1,234"), (0, "0.00")]
)
def test_three_significant_digits(value: float, shown: str) -> None:
    assert significant(value) == shown


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_what_was_not_measured_is_a_dash(value: float | None) -> None:
    assert {show(value) for show in (significant, short, percent, points, byte_size)} == {DASH}


def test_counts_and_bytes_carry_their_unit() -> None:
    assert [short(n) for n in (812, 61_706, 11_212_800, 3e9)] == ["812", "61.7 k", "11.2 M", "3.00 G"]
    assert [byte_size(n) for n in (812, 38_400, 94_100_000)] == ["812 B", "38.4 kB", "94.1 MB"]


def test_points_show_a_sign_only_when_asked_and_never_on_zero() -> None:
    assert [points(0.0028), points(-0.0028), points(-0.00001)] == ["0.28", "-0.28", "0.00"]
    assert [points(0.0028, signed=True), points(0.0, signed=True)] == ["+0.28", "0.00"]


def test_times_of_nothing_is_unknown_not_infinite() -> None:
    assert [times(12, 3), times(590, 10), times(1, 0), times(None, 3)] == ["\u00d74.0", "\u00d759", DASH, DASH]


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("accuracy_drop", 0.0123, "1.23 pp"),
        ("max_class_recall_drop", 0.1, "10.00 pp"),
        ("size_bytes", 46_320, "46.3 kB"),
        ("latency_ms", 0.2, "0.200 ms"),
        ("parity", 0.9871, "0.9871"),
        ("class_mcnemar_p", 0.05, "0.050"),
        ("size_bytes", None, DASH),
    ],
)
def test_a_check_is_shown_in_the_unit_of_its_name(name: str, value: float | None, shown: str) -> None:
    assert check_figure(name, value) == shown


def test_a_check_is_called_without_its_unit() -> None:
    names = ("max_size_bytes", "latency_ms", "class_recall_drop", "latency_ms_p50_vs_parent", "accuracy_drop_upper95")
    shown = ["size", "latency", "class recall drop", "latency p50 vs parent", "accuracy drop (95\u00a0%)"]
    assert [check_name(name) for name in ("class_mcnemar_p", "ece_increase")] == ["class McNemar p", "ECE increase"]
    assert [check_name(name) for name in names] == shown
