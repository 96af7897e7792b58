"""The samples that only the final model gets wrong, as the report shows them."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Final

from tasks.report.wording import percent

MOST_COLUMNS: Final = 8  # of a table's rows


def exemplar_section(found: Mapping[str, Any], classes: list[str]) -> dict[str, Any] | None:
    """Pictures or rows, the surest mistakes first; None where evaluate kept none."""
    if not found:
        return None
    counts = ", ".join(f"{found['counts'][part]:,} of {found['samples'][part]:,} {part}" for part in found["counts"])
    shown = [
        {
            "id": one["id"],
            "actual": classes[one["actual"]],
            "predicted": classes[one["predicted"]],
            "margin": percent(one["margin"], 1),
            "sure": percent(one["reference_confidence"], 1),
            "picture": b64encode(one["png"]).decode() if one["png"] else None,
            "values": one["values"][:MOST_COLUMNS],
        }
        for one in found["shown"]
    ]
    heads = ["id", "actual", "answered", "margin", "reference", *found["columns"][:MOST_COLUMNS]]
    return {
        "counts": counts,
        "pictures": [one for one in shown if one["picture"]],
        "heads": heads,
        "rows": [
            (one["id"], one["actual"], one["predicted"], one["margin"], one["sure"], *one["values"])
            for one in shown
            if not one["picture"]
        ],
    }
