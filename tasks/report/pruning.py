"""How pruning went: what each step left, and what each layer could have lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tasks.report.charts import Chart, Curve, lines
from tasks.report.wording import percent, points, short

SPARSE: Final = 0.01  # zeros from where on a pattern of zeros is meant, not some that training left
HIGHLIGHTED: Final = 5  # layers of the sensitivity scan that get a colour
INSIDE: Final = {True: "pass", False: "fail"}


def diary_table(diary: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str], str]]:
    """A row per step: its name, its cells under the template's heads, and whether it is within the budget.

    diary: rows of diary.csv, numbers as numbers.
    """
    return [
        (
            str(row["step"]),
            [
                percent(row["aim"], 0),
                short(row["macs"]),
                short(row["parameters"]),
                percent(row["sparsity"], 1),
                percent(row["accuracy"]),
                points(row["accuracy_drop"], signed=True),
                points(row["accuracy_drop_upper95"]),
                points(row["class_recall_drop"]),
            ],
            INSIDE[row["inside"]],
        )
        for row in diary
    ]


def speed_note(diary: Sequence[Mapping[str, Any]]) -> str | None:
    """What zeros that stay in the file do not gain; None where channels were cut out instead."""
    if not diary or diary[-1]["sparsity"] < SPARSE:
        return None
    share = percent(diary[-1]["sparsity"], 1)
    return (
        f"{share} of the weights are zeros that stay in their places: ONNX Runtime takes as long for them "
        "as for others. The file is smaller once packed."
    )


def sensitivity_chart(scan: Sequence[Mapping[str, Any]]) -> Chart | None:
    """Accuracy against pruning ratio, a line per layer; the most sensitive ones in colour."""
    layers: dict[str, list[tuple[float, float]]] = {}
    for row in scan:
        layers.setdefault(row["layer"], []).append((row["ratio"], row["accuracy"]))
    if not layers:
        return None
    ordered = sorted(layers, key=lambda layer: min(accuracy for _, accuracy in layers[layer]))
    curves: list[Curve] = [
        (layer, rank + 1 if rank < HIGHLIGHTED else None, sorted(layers[layer])) for rank, layer in enumerate(ordered)
    ]
    note = "Each layer pruned alone, nothing retrained; the most sensitive first."
    titles = ("Sensitivity to pruning", note, "pruning ratio")
    return lines(curves, titles, "accuracy", lambda ratio: percent(ratio, 0))
