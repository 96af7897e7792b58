"""The headline figures of the pruning benchmark's rows."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, Final

Row = dict[str, Any]
ALLOWED_DROP: Final = 0.003


def headline(
    rows: Sequence[Row], cuts: Sequence[float], dense_macs: int, dense_accuracy: float
) -> dict[str, float | None]:
    """Means over the seeds measured so far, of the criterion that was chosen; what has not been measured is null.

    cuts: at which ours is compared with torch-pruning's, on the seeds that both have.
    """
    chosen = next((row["method"] for row in rows if row["kind"] == "alone"), None)
    own_rows = [row for row in rows if row["kind"] in ("alone", "recovered") and row["method"] == chosen]
    ours, theirs = _by_run(own_rows, "recovered"), _by_run(rows, "recovered peer")
    means = _means(own_rows)
    good = [found for found in means if dense_accuracy - found["accuracy"] <= ALLOWED_DROP]
    smallest = min(good, key=lambda row: row["macs"], default=None)
    shared = ours.keys() & theirs.keys()
    margins = [
        statistics.fmean(ours[key]["accuracy"] - theirs[key]["accuracy"] for key in own)
        for cut in cuts
        if (own := [key for key in shared if key[0] == cut])
    ]
    taylor, magnitude = (
        next((row for row in rows if row["kind"] == "select" and row["method"] == method), None)
        for method in ("taylor", "magnitude")
    )
    return {
        "macs_ratio_at_0p3pp": dense_macs / smallest["macs"] if smallest else None,
        "latency_ratio_at_0p3pp": 1 / smallest["latency_share"] if smallest else None,
        "min_margin_vs_torch_pruning_pp": 100 * min(margins) if len(margins) == len(cuts) else None,
        "select_seconds_vs_torch_pruning": _faster(taylor, "without_scan", "torch_pruning"),
        "select_seconds_vs_torch_pruning_one_gradient": _faster(taylor, "without_scan", "torch_pruning_one_gradient"),
        "select_seconds_vs_torch_pruning_magnitude": _faster(magnitude, "without_scan", "torch_pruning"),
        "select_seconds_vs_torch_pruning_with_scan": _faster(taylor, "with_scan", "torch_pruning"),
        "teacher_accuracy": dense_accuracy,
    }


def _by_run(rows: Sequence[Row], kind: str) -> dict[tuple[float, int], Row]:
    """By cut and seed."""
    return {(row["cut"], row["seed"]): row for row in rows if row["kind"] == kind}


def _means(rows: Sequence[Row]) -> list[Row]:
    """Over the seeds, of what was measured alike."""
    runs: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        runs.setdefault((row["kind"], row["cut"], row["epochs"]), []).append(row)
    keys = ("macs", "latency_share", "accuracy")
    return [{key: statistics.fmean(row[key] for row in own) for key in keys} for own in runs.values()]


def _faster(timed: Row | None, ours: str, theirs: str) -> float | None:
    return timed[f"seconds_{theirs}"] / timed[f"seconds_{ours}"] if timed else None
