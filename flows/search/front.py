"""Which trial is better: inside the budget first, then along the axes drop, bytes and latency."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import Any, Final

from tasks.measure.paired import unseen

Row = Mapping[str, Any]  # a variant's row of reports/summary.json, of validation samples
# all positive, all better when smaller; the limit of the drop, as the budget asks for it
AXES: Final = ("accuracy_drop_upper95", "size_bytes", "latency_ms_p50")
ACCURACY: Final = "accuracy_drop_upper95"


def axes(row: Row) -> tuple[float, ...]:
    """The row's place."""
    return tuple(float(row[axis]) for axis in AXES)


def excess(row: Row) -> dict[str, float]:
    """By how much of its limit the row is outside each of the budget's checks; empty inside.

    A check that the validation samples leave open does not count. But the drop's does where they could prove it: the
    smaller its limit here, the likelier is the proof on the test split.
    """
    outside = {}
    for check in row["checks"]:
        provable = check["name"] == ACCURACY and unseen(row["samples"]) <= check["limit"]
        undecided = check["verdict"] == "inconclusive" and provable
        if check["verdict"] == "fail" or undecided:
            outside[check["name"]] = abs(check["value"] - check["limit"]) / (check["limit"] or 1.0)
    return outside


def violation(row: Row) -> float:
    """The sum of all excesses; 0 inside the budget."""
    return sum(excess(row).values())


def dominates(one: Row, other: Row) -> bool:
    """Nearer to the budget, or as near, nowhere worse and somewhere better.

    Deb et al. 2002, IEEE Transactions on Evolutionary Computation 6:182, definition 1.
    """
    if violation(one) != violation(other):
        return violation(one) < violation(other)
    return axes(one) != axes(other) and all(a <= b for a, b in zip(axes(one), axes(other), strict=True))


def front(rows: Mapping[int, Row]) -> list[int]:
    """The numbers of the rows inside the budget that no other dominates, smallest file first; equals once."""
    inside = {number: row for number, row in rows.items() if not violation(row)}
    first = {axes(row): number for number, row in reversed(inside.items())}
    best = [number for number in first.values() if not any(dominates(row, inside[number]) for row in inside.values())]
    return sorted(best, key=lambda number: inside[number]["size_bytes"])


def promising(row: Row, others: Sequence[Row], factor: int) -> bool:
    """Whether a shortened trial is among the best 1/factor of those so far, by how many dominate each."""
    everyone = [*others, row]

    def beaten(one: Row) -> int:
        return sum(dominates(other, one) for other in everyone)

    return sum(beaten(other) < beaten(row) for other in others) < ceil(len(everyone) / factor)


CHOICES: Final[Mapping[str, Callable[[Row], float]]] = {
    "balanced": lambda row: row[AXES[0]] * row[AXES[1]] * row[AXES[2]],
    "drop": lambda row: row[AXES[0]],
    "size": lambda row: row[AXES[1]],
    "latency": lambda row: row[AXES[2]],
}


def choose(rows: Mapping[int, Row], choice: str) -> int | None:
    """The number of the best on the front; None where nothing is inside the budget."""
    return min(front(rows), key=lambda number: CHOICES[choice](rows[number]), default=None)


def nearest(rows: Mapping[int, Row]) -> int:
    """The number of the row that is outside the budget by least."""
    return min(rows, key=lambda number: violation(rows[number]))


def would_have_to_give(row: Row) -> str:
    """Each limit that the row does not keep, and the one that it would."""
    outside = excess(row)
    return "; ".join(
        f"{check['name']} is {check['value']:.4g}, the budget allows {check['limit']:.4g}"
        for check in row["checks"]
        if check["name"] in outside
    )
