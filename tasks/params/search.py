"""search: which values of the params may vary, and how their combinations are walked."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Discriminator, Field, JsonValue, Tag, model_validator

from tasks.params.section import Count, Section, Share

# ingest, validate and split make the data and teacher is the reference: trials that differ there cannot be compared
VARIED: Final = ("coreset", "distill", "prune", "quantize")


class Span(Section):
    """Numbers from `low` to `high`, every `step` where one is given; `log`: as many below as above their middle."""

    low: int | float
    high: int | float
    step: int | float | None = None
    log: bool = False

    @model_validator(mode="after")
    def _is_a_span(self) -> Span:
        if self.low >= self.high:
            raise ValueError(f"low {self.low} must be below high {self.high}")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log needs low above 0 and no step")
        if self.step is not None and (self.step <= 0 or abs((steps := self.span / self.step) - round(steps)) > 1e-9):
            raise ValueError(f"step {self.step} must divide the way from low {self.low} to high {self.high}")
        return self

    @property
    def span(self) -> float:
        """From low to high."""
        return self.high - self.low


Candidates = Annotated[tuple[JsonValue, ...], Field(strict=False, min_length=1)]
Vary = Annotated[
    Annotated[Span, Tag("span")] | Annotated[Candidates, Tag("listed")],
    Discriminator(lambda value: "span" if isinstance(value, dict | Span) else "listed"),
]


class Halving(Section):
    """A trial first trains for `epochs` of its epochs; only the best of every `factor` trains for all.

    Li et al. 2020, A System for Massively Parallel Hyperparameter Tuning, arXiv:1810.05934, the stopping variant.
    """

    epochs: Share = 0.3
    factor: Annotated[int, Field(ge=2)] = 3


class Search(Section):
    """`space` maps a dotted name to the values it may take; the value in the file is always among a list's.

    choose: `balanced` takes the least product of the drop's limit, bytes and latency among what is in the budget.
    """

    trials: Count = 30
    sampler: Literal["tpe", "nsga2"] = "tpe"
    halving: Halving | None = None
    choose: Literal["balanced", "drop", "size", "latency"] = "balanced"
    space: dict[str, Vary] = {}

    @model_validator(mode="after")
    def _names_differ(self) -> Search:
        for name in self.space:
            if name.partition(".")[0] not in VARIED:
                raise ValueError(f"space names {name}; only {', '.join(VARIED)} can vary, as all trials share the rest")
            if above := [other for other in self.space if name.startswith(f"{other}.")]:
                raise ValueError(f"space names {name} and {above[0]}, which holds it; name one of them")
        return self
