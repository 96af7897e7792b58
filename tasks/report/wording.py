"""Figures as people read them: three significant digits, a unit, and a dash where there is none."""

from __future__ import annotations

import math
from typing import Final

DASH: Final = "\u2013"
MINUS: Final = "\u2212"
TIMES: Final = "\u00d7"


def significant(value: float | None, digits: int = 3) -> str:
    """`digits` significant digits, integer part never cut: 0.0123, 1.23, 12.3, 1,234."""
    if value is None or not math.isfinite(value):
        return DASH
    whole_digits = math.floor(math.log10(abs(value))) + 1 if value else 1
    return f"{value:,.{max(0, digits - whole_digits)}f}"


def short(count: float | None) -> str:
    """A count with k, M or G: 61,706 is `61.7 k`."""
    if count is None or not math.isfinite(count):
        return DASH
    for size, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(count) >= size:
            return f"{significant(count / size)} {prefix}"
    return f"{count:,.0f}"


def percent(share: float | None, decimals: int = 2) -> str:
    """A share in [0, 1] as `97.50 %`."""
    return DASH if share is None or not math.isfinite(share) else f"{share * 100:.{decimals}f} %"


def points(share: float | None, *, signed: bool = False) -> str:
    """A difference of shares in percentage points, without the unit: 0.0028 is `0.28`."""
    if share is None or not math.isfinite(share):
        return DASH
    value = round(share * 100, 2) + 0.0  # + 0.0 turns -0.0 into 0.0
    return f"{value:+.2f}" if signed and value else f"{value:.2f}"


def chance(p: float) -> str:
    """A p-value with three digits."""
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def kilobytes(size: float | None) -> str:
    """Bytes in kB of 1,000, without the unit."""
    return DASH if size is None else significant(size / 1000)


def byte_size(size: float | None) -> str:
    """Bytes with the unit that fits: `812 B`, `38.4 kB`, `94.1 MB`."""
    if size is None or not math.isfinite(size):
        return DASH
    return f"{size:.0f} B" if size < 1000 else f"{short(size)}B"


def times(before: float | None, after: float | None) -> str:
    """How many times smaller `after` is, with two digits and the sign in front."""
    return f"{TIMES}{significant(before / after, 2)}" if before and after else DASH


SPELLED: Final = {"upper95": "(95\u00a0%)", "mcnemar": "McNemar", "ece": "ECE"}


def check_figure(name: str, value: float | None) -> str:
    """A check's value or limit in the unit its name calls for."""
    if value is None:
        return DASH
    if "agreement" in name or "flips" in name:
        return percent(value)
    if "drop" in name:
        return f"{points(value)} pp"
    if "bytes" in name or "size" in name:
        return byte_size(value)
    if "latency" in name or name.endswith("_ms"):
        return f"{significant(value)} ms"
    if name.endswith("_p"):
        return f"{value:.3f}"
    return significant(value, 4)


def check_name(name: str) -> str:
    """A check's name in words, without the unit its figure carries: `class recall drop`, `latency p50 vs parent`."""
    words = [word for word in name.removeprefix("max_").split("_") if word not in ("bytes", "ms")]
    return " ".join(SPELLED.get(word, word) for word in words)
