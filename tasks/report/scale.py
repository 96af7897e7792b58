"""From values to positions on the page, and where the ticks go."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

PADDING = 0.08


@dataclass(frozen=True)
class Scale:
    """Maps low..high onto start..end in pixels; `end` may lie before `start`, as it does on a y axis."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    @classmethod
    def around(cls, values: Iterable[float], start: float, end: float, *, log: bool = False) -> Scale:
        """A scale that shows all values with a margin; on a log scale they must be positive."""
        shown = [math.log10(value) if log else value for value in values]
        low, high = min(shown), max(shown)
        margin = PADDING * (high - low) or (0.3 if log else abs(high) * PADDING or 1.0)
        low, high = low - margin, high + margin
        return cls(10**low, 10**high, start, end, log=True) if log else cls(low, high, start, end)

    def __call__(self, value: float) -> float:
        """Where `value` lies, in pixels."""
        low, high = self.low, self.high
        if self.log:
            value, low, high = math.log10(value), math.log10(low), math.log10(high)
        return round(self.start + (value - low) / (high - low) * (self.end - self.start), 1)

    def ticks(self, most: int = 6) -> list[float]:
        """At most `most` round values: 1, 2 and 5 times powers of ten."""
        if self.log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            for factors in ((1, 2, 5), (1, 3), (1,)):
                inside = [f * 10.0**d for d in decades for f in factors if self.low <= f * 10.0**d <= self.high]
                if 2 <= len(inside) <= most:
                    return inside
            if len(inside) > most:  # many decades: every second, third, ... power of ten
                return inside[:: math.ceil(len(inside) / most)]
        step = next(s for s in self._steps() if math.floor(self.high / s) - math.ceil(self.low / s) + 1 <= most)
        first = math.ceil(self.low / step)
        return [round(i * step, 10) for i in range(first, math.floor(self.high / step) + 1)]

    def _steps(self) -> Iterable[float]:
        power = 10.0 ** (math.floor(math.log10(self.high - self.low)) - 2)
        return (factor * power * decade for decade in (1, 10, 100, 1000) for factor in (1, 2, 5))
