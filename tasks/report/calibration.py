"""Whether a file is as often right as it says: reliability, and what a temperature changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tasks.report.before_after import Ends
from tasks.report.charts import BOTTOM, LEFT, RIGHT, TOP, Chart, Key, Mark, Stroke, percent_ticks
from tasks.report.scale import Scale
from tasks.report.variants import chosen
from tasks.report.wording import percent, significant

FEWEST: Final = 5  # samples of a range; the share of fewer says nothing

Curve = Sequence[tuple[float, float, int]]  # (mean confidence, share of right answers, samples) of each range


def reliability_chart(curves: Mapping[str, Curve], ends: Ends) -> Chart | None:
    """Right answers against confidence, for the two models of `ends`; on the dashed line they are the same."""
    shown = {name: [point for point in curves.get(name, ()) if point[2] >= FEWEST] for name, _ in ends}
    if not all(shown.values()):
        return None
    height = 300
    x, y = Scale(0.0, 1.04, LEFT, RIGHT), Scale(0.0, 1.04, height - BOTTOM, TOP)
    strokes, marks = [Stroke(f"M{x(0)} {y(0)} L{x(1)} {y(1)}", "even")], []
    for (name, series), hollow in zip(ends, (True, False), strict=True):
        curve = shown[name]
        strokes.append(Stroke("M" + " L".join(f"{x(sure)} {y(right)}" for sure, right, _ in curve), "line", series))
        marks += [
            Mark(
                x(sure),
                y(right),
                series,
                f"{name}\nconfidence {percent(sure)}\nright {percent(right)}\n{count:,} samples",
                hollow=hollow,
            )
            for sure, right, count in curve
        ]
    return Chart(
        "Reliability", f"Below the dashed line a model is surer than it is right. Ranges of {FEWEST} samples or more.",
        "confidence", percent_ticks(x), percent_ticks(y), height=height, strokes=strokes, marks=marks,
        legend=(Key(*ends[0], hollow=True), Key(*ends[1])),
    )  # fmt: skip


def temperature_note(summary: Mapping[str, Any], quantization: Mapping[str, Any]) -> str | None:
    """What the temperature in the file did to the test split; None where it has none."""
    found, final = quantization.get("temperature"), chosen(summary, "final")
    if not found or "ece_uncalibrated" not in final:
        return None
    changes = ", ".join(
        f"{name} {significant(final[f'{key}_uncalibrated'])} without it and {significant(final[key])} with it"
        for key, name in (("ece", "ECE"), ("nll", "NLL"))
    )
    return (
        f"{final['name']} divides its logits by a temperature of {significant(found['temperature'])}, fitted on "
        f"{found['samples']:,} validation samples; on the test split {changes}."
    )
