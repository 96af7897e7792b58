"""Dumbbells: a share before and after, a row per class, slice or corruption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tasks.report.charts import BOTTOM, LEFT, LETTER, RIGHT, TOP, Chart, Key, Mark, Stroke, clipped, percent_ticks
from tasks.report.scale import Scale
from tasks.report.variants import chosen
from tasks.report.wording import percent, points

Row = tuple[str, float, float, int | None]  # name, before, after, samples
Ends = tuple[tuple[str, int], tuple[str, int]]  # (name, series) of both
MOST_SLICES: Final = 30


def before_after(rows: Sequence[Row], titles: tuple[str, str, str], ends: Ends) -> Chart:
    """The deepest fall first. titles: of the chart, its note, its x axis."""
    ordered = sorted(rows, key=lambda row: row[2] - row[1])
    left = min(190.0, max(LEFT, 24 + LETTER * max(len(clipped(name)) for name, *_ in ordered)))
    x = Scale.around([share for _, before, after, _ in ordered for share in (before, after)], left, RIGHT)
    strokes, marks, ticks = [], [], []
    for place, (name, before, after, samples) in enumerate(ordered):
        old, new, y = x(before), x(after), TOP + 16 + 24 * place
        strokes.append(Stroke(f"M{old} {y} H{new}", "fall" if after < before else "rise"))
        tip = (
            f"{name}\n{ends[0][0]} {percent(before)}\n{ends[1][0]} {percent(after)}\n"
            f"change {points(after - before, signed=True)} pp"
        )
        tip += "" if samples is None else f"\n{samples:,} test samples"
        marks += [Mark(old, y, ends[0][1], tip, hollow=True), Mark(new, y, ends[1][1], tip)]
        ticks.append((y, clipped(name)))
    return Chart(
        *titles, percent_ticks(x), ticks, height=TOP + 8 + 24 * len(ordered) + BOTTOM, left=left, strokes=strokes,
        marks=marks, legend=(Key(*ends[0], hollow=True), Key(*ends[1])), grid="columns",
    )  # fmt: skip


def recall_by_class(names: Sequence[str], before: Mapping[str, Any], after: Mapping[str, Any], ends: Ends) -> Chart:
    """before, after: figures per class."""
    support = before.get("support", [None] * len(names))
    rows = list(zip(names, before["recall"], after["recall"], support, strict=True))
    return before_after(rows, ("Recall by class, before and after", "Sorted by fall, deepest first.", "recall"), ends)


def accuracy_by_slice(summary: Mapping[str, Any], ends: Ends) -> Chart | None:
    """Of the final model's slices that have test samples; of many, those that changed most."""
    slices = [one for one in chosen(summary, "final").get("slices", ()) if one["samples"] and "accuracy" in one]
    shown = sorted(slices, key=lambda one: -abs(one["drop"]))[:MOST_SLICES]
    if not shown:
        return None
    rows = [(one["name"], one["accuracy"] + one["drop"], one["accuracy"], one["samples"]) for one in shown]
    titles = ("Accuracy by slice, before and after", "Sorted by fall, deepest first.", "accuracy")
    return before_after(rows, titles, ends)
