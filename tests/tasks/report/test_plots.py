"""Plot files hold the run's figures and come out the same every time."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

from tasks.report.plots import write_plots

Run = tuple[dict[str, Any], dict[str, Any]]
PICTURES = {"accuracy_vs_size.png", "accuracy_vs_latency.png", "confusion.png", "training.png"}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_tables_hold_the_runs_figures(run: Run, tmp_path: Path) -> None:
    summary, details = run
    write_plots(summary, details, tmp_path / "plots")
    variants = rows(tmp_path / "plots" / "variants.csv")
    assert [row["variant"] for row in variants] == [variant["name"] for variant in summary["variants"]]
    assert [float(row["latency_ms_p50"]) for row in variants] == [0.412, 0.071, 0.07, 0.052, 0.038]
    confusion = rows(tmp_path / "plots" / "confusion.csv")
    assert len(confusion) == 360
    right = sum(row["actual"] == row["predicted"] for row in confusion)
    assert right / 360 == summary["variants"][-1]["accuracy"]
    training = rows(tmp_path / "plots" / "training.csv")
    assert [(row["epoch"], row["series"]) for row in training[19:21]] == [("20", "teacher"), ("1", "student_alone")]
    assert float(training[0]["loss"]) == details["histories"]["teacher"][0]["loss"]


def test_the_coreset_s_tables_say_what_was_kept(run: Run, tmp_path: Path) -> None:
    dots = [{"x": 0.5, "y": -1.0, "class": "a", "kept": True}, {"x": 2.0, "y": 3.0, "class": "b", "kept": False}]
    run[1]["coreset"] = {"per_class": {"a": 1, "b": 0}, "per_class_of": {"a": 4, "b": 0}, "embedding": dots}
    write_plots(*run, tmp_path)
    assert (tmp_path / "coreset_classes.csv").read_text() == "class,kept,of,share\na,1,4,0.25\nb,0,0,0\n"
    assert (tmp_path / "coreset_kept.csv").read_text() == "x,y,class\n0.5,-1.0,a\n"
    assert (tmp_path / "coreset_dropped.csv").read_text() == "x,y,class\n2.0,3.0,b\n"


def test_series_may_keep_different_figures(run: Run, tmp_path: Path) -> None:
    summary, details = run
    details["histories"] = {"teacher": [{"epoch": 1, "loss": 2.0}], "student": [{"epoch": 1, "agreement": 0.5}]}
    write_plots(summary, details, tmp_path)
    assert (tmp_path / "training.csv").read_text() == "epoch,series,loss,agreement\n1,teacher,2.0,\n1,student,,0.5\n"


def test_rounds_of_one_training_follow_each_other(run: Run, tmp_path: Path) -> None:
    run[1]["histories"] = {"pruned": [{"epoch": epoch, "loss": 1.0} for epoch in (1, 2, 1, 2, 3)]}
    write_plots(*run, tmp_path)
    assert [row["epoch"] for row in rows(tmp_path / "training.csv")] == ["1", "2", "3", "4", "5"]


def test_same_run_same_bytes_whatever_the_users_style(run: Run, tmp_path: Path) -> None:
    write_plots(*run, tmp_path / "a")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        write_plots(*run, tmp_path / "b")
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names == {"variants.csv", "confusion.csv", "training.csv"} | PICTURES
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_pictures_carry_no_metadata_that_varies(run: Run, tmp_path: Path) -> None:
    write_plots(*run, tmp_path)
    for name in PICTURES:
        content = (tmp_path / name).read_bytes()
        assert content.startswith(b"\x89PNG")
        assert not any(chunk in content for chunk in (b"tEXt", b"iTXt", b"tIME"))


def test_what_is_missing_is_not_written(run: Run, tmp_path: Path) -> None:
    for variant in run[0]["variants"]:
        variant["latency_ms_p50"] = None
    write_plots(run[0], {}, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"variants.csv", "accuracy_vs_size.png"}


def test_any_class_name_can_be_drawn(make_run: Callable[..., Run], tmp_path: Path) -> None:
    classes = ["$x^", 'a,"b"\nc', "\u732b", "a name that goes on and on and on"]
    write_plots(*make_run(classes, samples=40), tmp_path)
    assert {row["actual"] for row in rows(tmp_path / "confusion.csv")} == set(classes)
