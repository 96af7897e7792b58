"""Rows of one kind as CSV: training curves, one line per series and epoch, and scans."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from tasks.training.state import Epoch


def write_rows(rows: Sequence[Any], kind: type, path: Path) -> None:
    """One line per dataclass of `kind`, its fields as columns."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(kind)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


def write_curves(history: Sequence[Epoch], path: Path) -> None:
    """Write the columns of Epoch, for DVC's plots and the report."""
    write_rows(history, Epoch, path)


def read_curves(path: Path) -> list[dict[str, str | float]]:
    """The rows again, numbers as numbers."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            {key: value if key == "series" else float(value) for key, value in row.items()}
            for row in csv.DictReader(file)
        ]
