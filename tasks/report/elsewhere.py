"""How the files do where the data are not those of the test split, as the report says it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.report.before_after import Ends, before_after
from tasks.report.variants import chosen
from tasks.report.wording import DASH, MINUS, chance, percent, points


def elsewhere_section(summary: Mapping[str, Any], ends: Ends) -> dict[str, Any] | None:
    """A chart of the final model under corruptions, its figures, and a row per variant; None without such figures."""
    if "train_accuracy" not in (final := chosen(summary, "final")):
        return None
    under = final.get("corruptions", ())
    note = f"Mean over the severities, {summary.get('corrupted_samples', 0):,} test samples; deepest fall first."
    rows = [(_words(one["name"]), one["reference"], one["accuracy"], None) for one in under]
    return {
        "chart": before_after(rows, ("Accuracy under corruptions", note, "accuracy"), ends) if rows else None,
        "corruptions": [
            (
                _words(one["name"]),
                percent(one["reference"]),
                percent(one["accuracy"]),
                _signed(one["drop"]),
                _signed(one["increase"]),
                chance(one["p"]),
            )
            for one in under
        ],
        "shifted": summary.get("shifted_samples") or None,
        "variants": [_variant(variant, "shifted_accuracy" in final) for variant in summary["variants"]],
    }


def _variant(variant: Mapping[str, Any], shifted: bool) -> list[str]:
    cells = [
        _words(variant["name"]),
        percent(variant["train_accuracy"]),
        percent(variant["accuracy"]),
        _signed(variant["train_test_gap"]),
        percent(variant.get("corruption_accuracy")),
    ]
    if not shifted:
        return cells
    upper = DASH if variant["gate"] == "reference" else points(variant["shifted_drop_upper95"])
    return [*cells, percent(variant["shifted_accuracy"]), _signed(variant["shifted_drop"]), upper]


def _signed(share: float) -> str:
    return points(share, signed=True).replace("-", MINUS)


def _words(name: str) -> str:
    return name.replace("_", " ")
