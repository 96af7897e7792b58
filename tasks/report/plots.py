"""The same findings as files: CSV for `dvc plots`, PNG for MLflow."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tasks.report.scale import Scale
from tasks.report.variants import SERIES, consecutive, pareto_front

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COSTS: Final = {  # column: (picture, axis, size of its unit)
    "size_bytes": ("accuracy_vs_size.png", "size in kB", 1000),
    "latency_ms_p50": ("accuracy_vs_latency.png", "latency p50 in ms", 1),
}
COLUMNS: Final = ("accuracy", "size_bytes", "latency_ms_p50", "throughput_per_s", "parameters", "macs", "gate")
MOST_LABELLED: Final = 20  # classes; with more, the axes of the confusion matrix carry no names
STYLE: Final = {
    "font.family": "DejaVu Sans",  # ships with matplotlib, so that every machine draws the same
    "text.parse_math": False,  # a class may be called "$5"
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e2e6eb",
    "axes.axisbelow": True,
}


def write_plots(summary: Mapping[str, Any], details: Mapping[str, Any], folder: Path) -> None:
    """Fill `folder` with the plots of a run; what `details` lack is not written.

    variants.csv, a row per variant. confusion.csv: actual, predicted, a row per test sample of the final variant.
    training.csv: epoch, series and the figures of each history. coreset_classes.csv: class, kept, of, share.
    coreset_kept.csv, coreset_dropped.csv: x, y, class, a row per sample shown. accuracy_vs_size.png,
    accuracy_vs_latency.png, confusion.png, training.png. The same arguments give the same bytes.
    """
    import matplotlib

    folder.mkdir(parents=True, exist_ok=True)
    variants = summary["variants"]
    histories = {name: consecutive(rows) for name, rows in (details.get("histories") or {}).items()}
    pairs = _named_predictions(details)
    _write_csv(
        folder / "variants.csv", ("variant", *COLUMNS), ([v["name"], *(v[c] for c in COLUMNS)] for v in variants)
    )
    if pairs:
        _write_csv(folder / "confusion.csv", ("actual", "predicted"), pairs)
    if histories:
        rows = [{**row, "series": name} for name, history in histories.items() for row in history]
        metrics = list(dict.fromkeys(key for row in rows for key in row if key not in ("epoch", "series")))
        header = ("epoch", "series", *metrics)
        _write_csv(folder / "training.csv", header, ([row.get(key, "") for key in header] for row in rows))
    _write_coreset(details.get("coreset") or {}, folder)
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **STYLE, "backend": "agg"}):
        for column, (picture, _, _) in COSTS.items():
            if any(variant[column] for variant in variants):
                _save(_trade_off(summary, column), folder / picture)
        if found := (details.get("per_variant") or {}).get(summary["final"]):
            _save(_confusion(found["confusion"], details["classes"]), folder / "confusion.png")
        if histories:
            order = [variant["name"] for variant in variants]
            _save(_training(histories, order), folder / "training.png")


def _named_predictions(details: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(actual, predicted) by class name, one per test sample."""
    found, classes = details.get("predictions"), details.get("classes")
    if not found or not classes:
        return []
    return [(classes[a], classes[p]) for a, p in zip(found["actual"], found["predicted"], strict=True)]


def _write_coreset(report: Mapping[str, Any], folder: Path) -> None:
    if kept := report.get("per_class"):
        of = report["per_class_of"]
        rows = ((name, kept[name], of[name], f"{kept[name] / max(of[name], 1):.4g}") for name in kept)
        _write_csv(folder / "coreset_classes.csv", ("class", "kept", "of", "share"), rows)
    if dots := report.get("embedding"):
        for name, kept in (("kept", True), ("dropped", False)):
            own = ([dot["x"], dot["y"], dot["class"]] for dot in dots if bool(dot["kept"]) is kept)
            _write_csv(folder / f"coreset_{name}.csv", ("x", "y", "class"), own)


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def _canvas() -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure  # without pyplot: no window, no state shared with the user's own plots

    figure = Figure(figsize=(7, 4.5), dpi=120, layout="constrained")
    return figure, figure.subplots()


def _save(figure: Figure, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a class named in a script the font lacks shows as boxes
        figure.savefig(path, format="png", metadata={"Software": None})


def _trade_off(summary: Mapping[str, Any], column: str) -> Figure:
    """Accuracy in percent against one cost on a log axis, with the Pareto front as steps."""
    figure, axes = _canvas()
    _, label, unit = COSTS[column]
    shown = [(i, v) for i, v in enumerate(summary["variants"]) if v[column]]
    places = [(variant[column] / unit, variant["accuracy"] * 100) for _, variant in shown]
    front = [places[index] for index in pareto_front(places)]
    axes.step(*zip(*front, strict=True), where="post", color=SERIES[0][0], alpha=0.3, linewidth=4, label="Pareto front")
    for (index, variant), place in zip(shown, places, strict=True):
        colour, _, marker = SERIES[index % len(SERIES)]
        axes.scatter(*place, s=70, color=colour, marker=marker, label=variant["name"], zorder=3)
    scale = Scale.around([cost for cost, _ in places], 0, 1, log=True)
    axes.set(xscale="log", xlim=(scale.low, scale.high), xlabel=f"{label} (log)", ylabel="accuracy in %")
    axes.set_xticks(scale.ticks(), [f"{tick:g}" for tick in scale.ticks()])
    axes.minorticks_off()
    figure.legend(frameon=False, loc="outside right upper")
    return figure


def _confusion(counts: Sequence[Sequence[int]], classes: Sequence[str]) -> Figure:
    """Counts shaded by their share of the row."""
    figure, axes = _canvas()
    shares = [[count / (sum(row) or 1) for count in row] for row in counts]
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="share of the actual class")
    axes.grid(False)
    axes.set(xlabel="predicted", ylabel="actual")
    if len(classes) > MOST_LABELLED:
        return figure
    names = [_plain(name) for name in classes]
    turn = 90 if max(map(len, names)) > 3 else 0
    axes.set_xticks(range(len(names)), names, rotation=turn)
    axes.set_yticks(range(len(names)), names)
    for i, row in enumerate(counts):
        for j, count in enumerate(row):
            if count:
                colour = "white" if shares[i][j] > 0.5 else "black"
                axes.text(j, i, f"{count:,}", ha="center", va="center", color=colour, fontsize=8)
    return figure


def _plain(name: str) -> str:
    """A class name on one line, cut to fit."""
    line = " ".join(name.split())
    return line if len(line) <= 24 else f"{line[:23]}…"


def _training(histories: Mapping[str, Sequence[Mapping[str, Any]]], order: Sequence[str]) -> Figure:
    """Validation accuracy by epoch, coloured as the variants of the same name."""
    figure, axes = _canvas()
    for name, history in histories.items():
        rows = [row for row in history if row.get("validation_accuracy") is not None]
        colour = SERIES[order.index(name) % len(SERIES)][0] if name in order else "black"
        accuracies = [row["validation_accuracy"] * 100 for row in rows]
        axes.plot([row["epoch"] for row in rows], accuracies, color=colour, label=name, linewidth=2)
    axes.set(xlabel="epoch", ylabel="validation accuracy in %")
    axes.legend(frameon=False, loc="lower right")
    return figure
