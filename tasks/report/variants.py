"""Look-ups in a summary that the table, the page and the plots share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

# (light theme, dark theme, matplotlib marker); after Okabe & Ito, told apart with every kind of colour vision
SERIES: Final = (
    ("#5b6573", "#a9b4c2", "o"),
    ("#bf5200", "#f5a05a", "s"),
    ("#0067a8", "#62b5f2", "D"),
    ("#007a59", "#45cfa4", "^"),
    ("#9c3d78", "#e79ac8", "v"),
    ("#8a6a00", "#e3c04f", "P"),
)


def chosen(summary: Mapping[str, Any], role: Literal["reference", "final"]) -> Mapping[str, Any]:
    """The variant that plays `role`.

    Raises:
        ValueError: the summary lists no variant of that name.
    """
    for variant in summary["variants"]:
        if variant["name"] == summary[role]:
            found: Mapping[str, Any] = variant
            return found
    names = ", ".join(variant["name"] for variant in summary["variants"])
    raise ValueError(f"summary: {role} is '{summary[role]}', which is not among the variants {names}")


def candidate(variants: Sequence[Mapping[str, Any]]) -> str | None:
    """The name of the smallest that passed the gate, which register takes; of equals, the first."""
    passed = [variant for variant in variants if variant["gate"] == "pass"]
    return str(min(passed, key=lambda variant: variant["size_bytes"])["name"]) if passed else None


def consecutive(history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a training in their order; where epochs start anew, as after each round of pruning, they count on."""
    rows: list[dict[str, Any]] = []
    offset = last = 0
    for row in history:
        if row["epoch"] + offset <= last:
            offset = last
        last = row["epoch"] + offset
        rows.append({**row, "epoch": last})
    return rows


def pareto_front(candidates: Sequence[tuple[float, float]]) -> list[int]:
    """Which (cost, accuracy) pairs no other beats: indices by rising cost, each more accurate than the one before."""
    front: list[int] = []
    for index in sorted(range(len(candidates)), key=lambda i: (candidates[i][0], -candidates[i][1])):
        if not front or candidates[index][1] > candidates[front[-1]][1]:
            front.append(index)
    return front
