"""Whether the teacher was worth it, as the report says it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tasks.report.wording import DASH, percent, points

LEVEL: Final = 0.05


def distillation(summary: Mapping[str, Any], comparison: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the teacher's answers brought over training on the labels alone: the answer and its figures.

    comparison: comparison.json of the distill stage; empty where there is none.
    """
    by_name = {variant["name"]: variant for variant in summary["variants"]}
    if not {"student", "student_alone"} <= by_name.keys():
        return None
    taught, alone = by_name["student"]["accuracy"], by_name["student_alone"]["accuracy"]
    gain, resolved = taught - alone, summary.get("smallest_detectable_drop") or 0.0
    figures = f"The student reaches {percent(taught)} with the teacher and {percent(alone)} on the labels alone."
    if comparison.get("chosen") and not comparison["chosen"]["losses"]:
        answer = "Distillation did not help here"
        figures = (
            f"The probe found no loss better than the labels alone. With them the student reaches {percent(taught)}."
        )
    elif abs(gain) <= resolved:
        answer = f"Too close to call: {points(gain, signed=True)} pp"
        figures = f"{figures} This test set cannot show less than {points(resolved)} pp."
    else:
        answer = f"{'Yes' if gain > 0 else 'No'}: {points(gain, signed=True)} pp"
    return {"answer": answer, "figures": figures, "validation": comparison.get("sentence"), **_details(comparison)}


def _details(comparison: Mapping[str, Any]) -> dict[str, Any]:
    trials: Sequence[Mapping[str, Any]] = comparison.get("probe") or ()
    changed = [entry for entry in comparison.get("classes") or () if entry["p_adjusted"] < LEVEL]
    texts = [
        f"{entry['name']} {points(entry['recall_student'] - entry['recall_alone'], signed=True)} pp"
        for entry in changed
    ]
    rounds = sorted({trial["epochs"] for trial in trials})
    found = {(trial["candidate"], trial["epochs"]): percent(trial["validation_accuracy"]) for trial in trials}
    names = dict.fromkeys(trial["candidate"] for trial in trials)
    return {
        "classes": ", ".join(texts),
        "rounds": rounds,
        "probe": [(name, [found.get((name, epochs), DASH) for epochs in rounds]) for name in names],
        "chosen": (comparison.get("chosen") or {}).get("name"),
    }
