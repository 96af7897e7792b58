"""When to prune how much: the share of the whole cut that is done after each step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

Schedule = Callable[[int], list[float]]


def one_shot(steps: int = 1) -> list[float]:
    """All at once."""
    return [1.0]


def linear(steps: int) -> list[float]:
    """The same share each step."""
    return [step / steps for step in range(1, steps + 1)]


def cubic(steps: int) -> list[float]:
    """Much at first, little at the end (Zhu, Gupta 2017, arXiv:1710.01878)."""
    return [1 - (1 - step / steps) ** 3 for step in range(1, steps + 1)]


SCHEDULES: Final[Mapping[str, Schedule]] = {"one_shot": one_shot, "linear": linear, "cubic": cubic}
