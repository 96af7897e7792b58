"""The budget's verdicts: each limit against its figure, pass, fail or inconclusive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tasks.measure.paired import Drop
from tasks.params import Budget

Verdict = Literal["pass", "fail", "inconclusive"]
# a choice, so that the clock's noise does not decide between files of the same speed
TIMING_TOLERANCE = 0.05
# 49/50 - 48/50 is 0.02 and a rounding error
ROUNDING = 1e-9


@dataclass(frozen=True)
class Check:
    """One limit: what was measured, what was allowed, and why the verdict is what it is."""

    name: str
    value: float
    limit: float
    verdict: Verdict
    note: str


def accuracy_check(drop: Drop, samples: int, budget: Budget) -> Check:
    """Non-inferiority: the upper 95 % limit of the paired drop must be within the budget."""
    limit = budget.max_accuracy_drop
    verdict: Verdict = "pass" if drop.upper95 <= limit else "fail" if drop.drop > limit else "inconclusive"
    note = f"drop {100 * drop.drop:.2f} pp, at most {100 * drop.upper95:.2f} pp with 95 % confidence, {samples} samples"
    if verdict == "inconclusive":
        note += f"; with these disagreements {_samples_needed(drop, samples, limit):,} samples would decide"
    return Check("accuracy_drop_upper95", drop.upper95, limit, verdict, note)


def class_check(recall_drops: Sequence[float], support: Sequence[int], classes: Sequence[str], limit: float) -> Check:
    """The class that lost most; a class too small for one sample to be within the limit cannot be judged."""
    worst = max(range(len(classes)), key=lambda index: recall_drops[index])
    value, smallest = recall_drops[worst], min(support)
    verdict: Verdict = (
        "fail" if value > limit + ROUNDING else "inconclusive" if smallest * limit < 1 - ROUNDING else "pass"
    )
    note = f"class {classes[worst]}, {support[worst]} samples"
    if verdict == "inconclusive":
        note += (
            f"; the smallest class has {smallest} samples, {_ceil(1 / limit) if limit else 'no number of'} would decide"
        )
    return Check("class_recall_drop", value, limit, verdict, note)


def limit_check(name: str, value: float, limit: float, note: str) -> Check:
    """A figure that must not exceed its limit."""
    return Check(name, value, limit, "pass" if value <= limit else "fail", note)


def parent_check(latency_ms: float, parent_latency_ms: float, parent: str) -> Check:
    """A compressed model must not be slower than what it was made from."""
    limit = parent_latency_ms * (1 + TIMING_TOLERANCE)
    note = f"{parent} takes {parent_latency_ms:.4f} ms; {TIMING_TOLERANCE:.0%} is left for the clock"
    return limit_check("latency_ms_p50_vs_parent", latency_ms, limit, note)


def overall(checks: Sequence[Check]) -> Verdict:
    """Fail where one check fails, else inconclusive where one is, else pass."""
    verdicts = {check.verdict for check in checks}
    return "fail" if "fail" in verdicts else "inconclusive" if "inconclusive" in verdicts else "pass"


def _samples_needed(drop: Drop, samples: int, limit: float) -> int:
    """The width of the interval shrinks with the square root of n."""
    room = max(limit - drop.drop, 1e-6)
    return _ceil(samples * ((drop.upper95 - drop.drop) / room) ** 2)


def _ceil(value: float) -> int:
    return int(-(-value // 1))
