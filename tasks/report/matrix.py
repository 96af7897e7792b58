"""Confusion matrices as tables of shaded cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tasks.report.wording import MINUS, percent

DEEPEST: Final = 0.6  # opacity of a full cell: text stays readable on it in both themes
FEW: Final = 4  # so many columns can carry long names upright
LONG: Final = 3

Counts = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Cell:
    """tone: good or bad, in the difference; plain otherwise. alpha: opacity of the shade."""

    text: str
    alpha: float
    tone: str
    tip: str


@dataclass(frozen=True)
class Matrix:
    """rows: one per actual class, one cell per predicted class. upright: the head of a column reads bottom up."""

    title: str
    note: str
    names: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    @property
    def head_em(self) -> float:
        """Width of the column of names, in em."""
        return round(min(9.5, 1.5 + 0.62 * max(map(len, self.names))), 1)

    @property
    def upright(self) -> bool:
        """Whether long names over many columns must be turned."""
        return len(self.names) > FEW and max(map(len, self.names)) > LONG


def matrix(title: str, names: Sequence[str], counts: Counts) -> Matrix:
    """Counts, shaded by their share of the row. The root makes single mistakes visible beside a full diagonal."""
    rows = []
    for actual, row in zip(names, counts, strict=True):
        total = sum(row) or 1
        rows.append(
            [
                Cell(
                    f"{count:,}" if count else "",
                    round(DEEPEST * (count / total) ** 0.5, 3),
                    "plain",
                    f"actual {actual}\npredicted {predicted}\n{count:,} samples, {percent(count / total, 1)} of row",
                )
                for predicted, count in zip(names, row, strict=True)
            ]
        )
    return Matrix(title, "Test samples; rows are the actual class, columns the predicted one.", names, rows)


def difference(names: Sequence[str], before: Counts, after: Counts) -> Matrix:
    """What changed from before to after: more on the diagonal is good, more off it is bad."""
    changes = [[b - a for a, b in zip(*pair, strict=True)] for pair in zip(before, after, strict=True)]
    largest = max(abs(change) for row in changes for change in row) or 1
    rows = [
        [
            Cell(
                f"{change:+,}".replace("-", MINUS) if change else "",
                round(DEEPEST * (abs(change) / largest) ** 0.5, 3),
                "good" if (change > 0) == (i == j) else "bad",
                f"actual {names[i]}\npredicted {names[j]}\n{before[i][j]:,} before, {after[i][j]:,} after",
            )
            for j, change in enumerate(row)
        ]
        for i, row in enumerate(changes)
    ]
    return Matrix("Change in confusion", "After minus before: blue got better, orange got worse.", names, rows)
