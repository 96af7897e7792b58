"""The headline figures of the pruning benchmark's rows."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Final

Row = dict[str, Any]
Run = tuple[str, float, int]
ALLOWED_DROP: Final = 0.003


def headline(
    rows: Sequence[Row], cuts: Sequence[float], dense_macs: int, dense_accuracy: float
) -> dict[str, float | None]:
    """Means over the seeds measured so far; what has not been measured is null.

    cuts: at which ours is compared with each of torch-pruning's ways, on the seeds that both have.
    """
    own_rows = [row for row in rows if row["kind"] in ("alone", "recovered")]
    means = _means(own_rows)
    good = [found for found in means if dense_accuracy - found["accuracy"] <= ALLOWED_DROP]
    smallest = min(good, key=lambda row: row["macs"], default=None)
    ours, theirs = _by_run(rows, "recovered"), _by_run(rows, "recovered peer")
    margins = margins_pp(ours, theirs)
    compared = {cut for _, cut in margins}
    taylor, magnitude = (
        next((row for row in rows if row["kind"] == "select" and row["method"] == method), None)
        for method in ("taylor", "magnitude")
    )
    return {
        "macs_ratio_at_0p3pp": dense_macs / smallest["macs"] if smallest else None,
        "latency_ratio_at_0p3pp": 1 / smallest["latency_share"] if smallest else None,
        "min_margin_vs_torch_pruning_pp": min(margins.values()) if compared == set(cuts) else None,
        "select_seconds_vs_torch_pruning": _faster(taylor, "without_scan", "torch_pruning"),
        "select_seconds_vs_torch_pruning_one_gradient": _faster(taylor, "without_scan", "torch_pruning_one_gradient"),
        "select_seconds_vs_torch_pruning_magnitude": _faster(magnitude, "without_scan", "torch_pruning"),
        "select_seconds_vs_torch_pruning_with_scan": _faster(taylor, "with_scan", "torch_pruning"),
        "teacher_accuracy": dense_accuracy,
    }


def margins_pp(ours: Mapping[Run, Row], theirs: Mapping[Run, Row]) -> dict[tuple[str, float], float]:
    """By torch-pruning's way and cut: how much more accurate ours is, the mean over the seeds that both have."""
    found: dict[tuple[str, float], list[float]] = {}
    for run in sorted(ours.keys() & theirs.keys()):
        found.setdefault(run[:2], []).append(100 * (ours[run]["accuracy"] - theirs[run]["accuracy"]))
    return {key: statistics.fmean(own) for key, own in found.items()}


def _by_run(rows: Sequence[Row], kind: str) -> dict[Run, Row]:
    """By torch-pruning's way, cut and seed."""
    return {(row["method"], row["cut"], row["seed"]): row for row in rows if row["kind"] == kind}


def _means(rows: Sequence[Row]) -> list[Row]:
    """Over the seeds, of what was measured alike."""
    runs: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        runs.setdefault((row["kind"], row["method"], row["cut"], row["epochs"]), []).append(row)
    keys = ("macs", "latency_share", "accuracy")
    return [{key: statistics.fmean(row[key] for row in own) for key in keys} for own in runs.values()]


def _faster(timed: Row | None, ours: str, theirs: str) -> float | None:
    return timed[f"seconds_{theirs}"] / timed[f"seconds_{ours}"] if timed else None
