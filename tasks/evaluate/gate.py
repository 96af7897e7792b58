"""The budget's verdicts: each limit against its figure, pass, fail or inconclusive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Literal

from scipy.stats import norm

from tasks.evaluate.groups import Group
from tasks.evaluate.robustness import Robustness
from tasks.measure.paired import Drop, samples_to_prove
from tasks.params import Budget

Verdict = Literal["pass", "fail", "inconclusive"]
# a choice, so that the clock's noise does not decide between files of the same speed
TIMING_TOLERANCE = 0.05
# 49/50 - 48/50 is 0.02 and a rounding error
ROUNDING = 1e-9
ALPHA = 0.05
# samples of a slice; of fewer, a share says little
FEWEST = 50


@dataclass(frozen=True)
class Check:
    """One limit: what was measured, what was allowed, and why the verdict is what it is.

    decides: how many samples would settle an open verdict; None where it is settled or no number would.
    """

    name: str
    value: float
    limit: float
    verdict: Verdict
    note: str
    decides: int | None = None


def accuracy_check(drop: Drop, samples: int, budget: Budget) -> Check:
    """Non-inferiority: the upper 95 % limit of the paired drop must be within the budget."""
    return drop_check("accuracy_drop_upper95", drop, samples, budget.max_accuracy_drop)


def drop_check(name: str, drop: Drop, samples: int, limit: float) -> Check:
    """Passes by the upper 95 % limit of the paired drop, fails by the drop itself."""
    verdict: Verdict = "pass" if drop.upper95 <= limit else "fail" if drop.drop > limit else "inconclusive"
    note = f"drop {100 * drop.drop:.2f} pp, at most {100 * drop.upper95:.2f} pp with 95 % confidence, {samples} samples"
    needed = samples_to_prove(drop, limit) if verdict == "inconclusive" else None
    if verdict == "inconclusive":
        note += f"; with these disagreements {f'{needed:,}' if needed else 'no number of'} samples would decide"
    return Check(name, drop.upper95, limit, verdict, note, needed)


def class_check(recall_drops: Sequence[float], support: Sequence[int], classes: Sequence[str], limit: float) -> Check:
    """The class that lost most; a class too small for one sample to be within the limit cannot be judged."""
    worst = max(range(len(classes)), key=lambda index: recall_drops[index])
    value, smallest = recall_drops[worst], min(support)
    verdict: Verdict = (
        "fail" if value > limit + ROUNDING else "inconclusive" if smallest * limit < 1 - ROUNDING else "pass"
    )
    note = f"class {classes[worst]}, {support[worst]} samples"
    needed = _ceil(1 / limit) if limit and verdict == "inconclusive" else None
    if verdict == "inconclusive":
        note += f"; the smallest class has {smallest} samples, {needed or 'no number of'} would decide"
    return Check("class_recall_drop", value, limit, verdict, note, needed)


def slice_check(slices: Sequence[Group], limit: float) -> Check:
    """The declared slice that lost most; one of fewer than FEWEST samples cannot be judged."""
    worst = max(slices, key=lambda one: (one.samples >= FEWEST, one.drop))
    small = [one for one in slices if one.samples < FEWEST]
    failed = worst.samples >= FEWEST and worst.drop > limit + ROUNDING
    note = f"slice {worst.name}, {worst.samples} samples"
    if small:
        names = ", ".join(f"{one.name} ({one.samples})" if one.samples else f"{one.name} (empty)" for one in small)
        note += f"; not testable with fewer than {FEWEST} samples: {names}"
    verdict: Verdict = "fail" if failed else "inconclusive" if small else "pass"
    return Check("slice_drop", worst.drop, limit, verdict, note, FEWEST if verdict == "inconclusive" else None)


def significance_check(kind: Literal["class", "slice"], groups: Sequence[Group], limit: float) -> Check:
    """Fails where a group lost more than `limit` and that is no chance; exact McNemar, adjusted by Holm.

    A group so small that the loss of all its samples could be chance cannot be judged.
    """
    suspects = [one for one in groups if one.drop > limit + ROUNDING]
    certain = [one for one in suspects if one.p < ALPHA]
    provable = next(n for n in count(1) if 2 * 0.5**n * len(groups) < ALPHA)
    small = [one for one in groups if one.samples < provable]
    verdict: Verdict = "fail" if certain else "inconclusive" if small else "pass"
    lowest = min(suspects, key=lambda one: one.p, default=None)
    shown = certain or [one for one in (lowest,) if one]
    note = ", ".join(f"{kind} {one.name} lost {100 * one.drop:.2f} pp of {one.samples} samples" for one in shown)
    note = note or f"no {kind} lost more than {100 * limit:.2f} pp"
    if small and not certain:
        note += f"; too small for any loss to be proven: {', '.join(f'{one.name} ({one.samples})' for one in small)}"
    decides = provable if verdict == "inconclusive" else None
    return Check(f"{kind}_mcnemar_p", lowest.p if lowest else 1.0, ALPHA, verdict, note, decides)


def corruption_check(found: Sequence[Robustness], samples: int, limit: float) -> Check:
    """Fails where a corruption makes the drop more than `limit` larger and that is no chance, adjusted by Holm.

    Where it may be chance, or with fewer than FEWEST samples, it cannot be judged.
    """
    suspects = [one for one in found if one.increase > limit + ROUNDING]
    certain = [one for one in suspects if one.p < ALPHA]
    largest = max(certain or found, key=lambda one: one.increase)
    worst = largest if certain else min(suspects, key=lambda one: one.p, default=largest)
    verdict: Verdict = "fail" if certain else "inconclusive" if suspects or samples < FEWEST else "pass"
    note = (
        f"{worst.name.replace('_', ' ')}: drop {100 * worst.drop:.2f} pp against "
        f"{100 * (worst.drop - worst.increase):.2f} pp on the same {samples:,} clean samples"
    )
    if verdict != "inconclusive":
        return Check("corruption_drop_increase", worst.increase, limit, verdict, note)
    # where further samples go on as these did; by Holm the surest of them all is held against ALPHA / len(found)
    distance = float(norm.isf(ALPHA / len(found)))
    needed = _ceil((distance * worst.spread / worst.increase) ** 2) if suspects else FEWEST
    note += f"; {needed:,} samples would decide"
    return Check("corruption_drop_increase", worst.increase, limit, verdict, note, needed)


def floor_check(name: str, value: float, limit: float, samples: int, note: str) -> Check:
    """A share that must not fall below its limit; with so few samples that one is too many it cannot be judged."""
    return _share_check(name, value, limit, note, (limit - value, 1 - limit, samples))


def ceiling_check(name: str, value: float, limit: float, samples: int, note: str) -> Check:
    """A share that must not exceed its limit; with so few samples that one is too many it cannot be judged."""
    return _share_check(name, value, limit, note, (value - limit, limit, samples))


def _share_check(name: str, value: float, limit: float, note: str, found: tuple[float, float, int]) -> Check:
    """found: by how much the limit is missed, the share of samples that may be wrong, the samples."""
    excess, allowed, samples = found
    if excess > ROUNDING:
        return Check(name, value, limit, "fail", note)
    if allowed * samples >= 1 - ROUNDING:
        return Check(name, value, limit, "pass", note)
    needed = _ceil(1 / allowed - ROUNDING) if allowed > ROUNDING else None
    note += f"; {samples} samples, {f'{needed:,}' if needed else 'no number of'} would decide"
    return Check(name, value, limit, "inconclusive", note, needed)


def limit_check(name: str, value: float, limit: float, note: str) -> Check:
    """A figure that must not exceed its limit."""
    return Check(name, value, limit, "pass" if value <= limit else "fail", note)


def cost_checks(size_bytes: int, latency_ms: float, budget: Budget) -> list[Check]:
    """Bytes and latency within what the budget names; a limit of None asks nothing."""
    checks = []
    if budget.max_size_bytes is not None:
        checks.append(limit_check("size_bytes", size_bytes, budget.max_size_bytes, "model.onnx"))
    if budget.max_latency_ms is not None:
        checks.append(limit_check("latency_ms_p50", latency_ms, budget.max_latency_ms, "batch 1, one thread"))
    return checks


def parent_check(latency_ms: float, parent_latency_ms: float, parent: str) -> Check:
    """A compressed model must not be slower than the fastest of those it was made from, step by step: `parent`."""
    limit = parent_latency_ms * (1 + TIMING_TOLERANCE)
    note = f"{parent} takes {parent_latency_ms:.4f} ms; {TIMING_TOLERANCE:.0%} is left for the clock"
    return limit_check("latency_ms_p50_vs_parent", latency_ms, limit, note)


def overall(checks: Sequence[Check]) -> Verdict:
    """Fail where one check fails, else inconclusive where one is, else pass."""
    verdicts = {check.verdict for check in checks}
    return "fail" if "fail" in verdicts else "inconclusive" if "inconclusive" in verdicts else "pass"


def _ceil(value: float) -> int:
    return int(-(-value // 1))
