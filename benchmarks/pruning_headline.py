"""The headline figures of the pruning benchmark's rows."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, Final

Row = dict[str, Any]
ALLOWED_DROP: Final = 0.003


def headline(
    rows: Sequence[Row], trained: Sequence[tuple[float, int]], dense_macs: int, dense_accuracy: float
) -> dict[str, float | None]:
    """Means over the seeds measured so far; what has not been measured is null.

    trained: cuts and epochs of the rows that are compared with torch-pruning's, on the seeds that both have.
    """
    ours = _by_run(rows, "recovered")
    theirs = _by_run(rows, "recovered peer")
    good = [
        found for run in trained if (found := _mean(ours, *run)) and dense_accuracy - found["accuracy"] <= ALLOWED_DROP
    ]
    smallest = min(good, key=lambda row: row["macs"], default=None)
    shared = ours.keys() & theirs.keys()
    margins = [
        statistics.fmean(ours[key]["accuracy"] - theirs[key]["accuracy"] for key in own)
        for run in trained
        if (own := [key for key in shared if key[:2] == run])
    ]
    taylor, magnitude = (
        next((row for row in rows if row["kind"] == "select" and row["method"] == method), None)
        for method in ("taylor", "magnitude")
    )
    return {
        "macs_ratio_at_0p3pp": dense_macs / smallest["macs"] if smallest else None,
        "latency_ratio_at_0p3pp": 1 / smallest["latency_share"] if smallest else None,
        "min_margin_vs_torch_pruning_pp": 100 * min(margins) if len(margins) == len(trained) else None,
        "select_seconds_vs_torch_pruning": _faster(taylor, "without_scan", "torch_pruning"),
        "select_seconds_vs_torch_pruning_one_gradient": _faster(taylor, "without_scan", "torch_pruning_one_gradient"),
        "select_seconds_vs_torch_pruning_magnitude": _faster(magnitude, "without_scan", "torch_pruning"),
        "select_seconds_vs_torch_pruning_with_scan": _faster(taylor, "with_scan", "torch_pruning"),
        "teacher_accuracy": dense_accuracy,
    }


def _by_run(rows: Sequence[Row], kind: str) -> dict[tuple[float, int, int], Row]:
    """By cut, epochs and seed."""
    return {(row["cut"], row["epochs"], row["seed"]): row for row in rows if row["kind"] == kind}


def _mean(rows: dict[tuple[float, int, int], Row], cut: float, epochs: int) -> Row | None:
    own = [row for key, row in rows.items() if key[:2] == (cut, epochs)]
    keys = ("macs", "latency_share", "accuracy")
    return {key: statistics.fmean(row[key] for row in own) for key in keys} if own else None


def _faster(timed: Row | None, ours: str, theirs: str) -> float | None:
    return timed[f"seconds_{theirs}"] / timed[f"seconds_{ours}"] if timed else None
