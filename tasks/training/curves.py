"""Training curves as CSV: one line per series and epoch."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from tasks.training.loop import Epoch


def write_curves(history: Sequence[Epoch], path: Path) -> None:
    """Write the columns of Epoch, for DVC's plots and the report."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Epoch)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(epoch) for epoch in history)


def read_curves(path: Path) -> list[dict[str, str | float]]:
    """The rows again, numbers as numbers."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            {key: value if key == "series" else float(value) for key, value in row.items()}
            for row in csv.DictReader(file)
        ]
