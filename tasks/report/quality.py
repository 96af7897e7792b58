"""How sure each file is of its answers, and whom it serves worse than the reference, as the report says it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tasks.report.variants import chosen
from tasks.report.wording import MINUS, chance, percent, points, significant

COLUMNS: Final = {  # key of a variant: heading, form
    "agreement": ("agreement", percent),
    "negative_flips": ("negative flips", percent),
    "positive_flips": ("positive flips", percent),
    "nll": ("NLL", significant),
    "brier": ("Brier", significant),
    "ece": ("ECE", significant),
}


def quality_section(summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """A row per variant, and one per slice of the final one; None where a summary has no such figures."""
    variants = [variant for variant in summary["variants"] if COLUMNS.keys() <= variant.keys()]
    if not variants:
        return None
    return {
        "drops": [
            (
                variant["name"].replace("_", " "),
                points(variant["accuracy_drop"], signed=True).replace("-", MINUS),
                points(variant["accuracy_drop_upper95"]),
                f"{points(variant['accuracy_drop_bootstrap05'], signed=True)} to "
                f"{points(variant['accuracy_drop_bootstrap95'], signed=True)}".replace("-", MINUS),
                chance(variant["mcnemar_p"]),
            )
            for variant in variants
            if variant["gate"] != "reference" and "accuracy_drop_bootstrap05" in variant
        ],
        "columns": [heading for heading, _ in COLUMNS.values()],
        "rows": [
            (variant["name"].replace("_", " "), *(form(variant[key]) for key, (_, form) in COLUMNS.items()))
            for variant in variants
        ],
        "slices": [
            (one["name"], f"{one['samples']:,}", points(one["drop"], signed=True), significant(one["p"]))
            for one in chosen(summary, "final").get("slices", ())
        ],
    }
