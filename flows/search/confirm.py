"""The one look at the test split: the chosen recipe evaluated there, and what looking more often is worth."""

from __future__ import annotations

import fcntl
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from flows.search.front import Row, limit_of, sure
from flows.search.space import Raw
from flows.search.trial import reproduce, write_params
from tasks.report.wording import points

log = logging.getLogger(__name__)

LOOKS: Final = "looks.json"


@dataclass(frozen=True)
class Confirmation:
    """row: the chosen file's on the test split. corrected: the drop's limit at 5 % divided by the number of looks."""

    row: Row
    samples: int
    looks: int
    corrected: float


def confirm(raw: Raw, variant: str, workspace: Path, *, recipe: str, home: Path) -> Confirmation:
    """Evaluate the recipe on the test split and count the look.

    variant: which of its files was chosen. home: the folder of all searches, where looks are counted.
    """
    write_params(raw, workspace)
    reproduce(["evaluate"], workspace, log)
    summary = json.loads((workspace / "reports" / "summary.json").read_text(encoding="utf-8"))
    row = next(row for row in summary["variants"] if row["name"] == variant)
    looks = _count_look(home / LOOKS, summary["data"]["sha256"], recipe)
    samples = int(summary["data"]["test"])
    return Confirmation(row, samples, looks, limit_of(row, samples, looks))


def statement(chosen: Row, tried: int, found: Confirmation) -> list[str]:
    """What the figures on validation and test samples are worth after so many looks."""
    return [
        f"Chosen as the best of {tried} on {chosen['samples']:,} validation samples, so its figures there are "
        f"optimistic: drop at most {points(chosen['accuracy_drop_upper95'])} pp with 95 % confidence for one look, "
        f"{points(limit_of(chosen, chosen['samples'], tried))} pp for {tried} (Bonferroni)"
        f"{', still inside the budget' if sure(chosen, tried) else ', with which no trial is inside the budget'}.",
        f"{'Confirmed' if found.row['gate'] == 'pass' else 'Not confirmed'} on {found.samples:,} test samples that no "
        f"trial has read: {found.row['gate']}, drop {points(found.row['accuracy_drop'])} pp, at most "
        f"{points(found.row['accuracy_drop_upper95'])} pp with 95 % "
        "confidence. "
        + (
            "It is the first recipe that a search looks at there, so that nothing is to be corrected."
            if found.looks == 1
            else f"Searches have looked at {found.looks} recipes there: corrected for it, at most "
            f"{points(found.corrected)} pp."
        ),
    ]


def _count_look(path: Path, data: str, recipe: str) -> int:
    """How many recipes any search has looked at on this data's test split, this one included."""
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        seen = known.setdefault(data, [])
        if recipe not in seen:
            seen.append(recipe)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
        partial.replace(path)
    return len(seen)
