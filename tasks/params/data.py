"""ingest, validate, split."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue, StringConstraints, model_validator

from tasks.params.section import Count, Factory, Section, Share


class Ingest(Section):
    source: Factory


class Expectation(Section):
    """One Great Expectations rule by its own name, for example ExpectColumnMaxToBeBetween."""

    type: Annotated[str, StringConstraints(pattern=r"^Expect\w+$")]
    kwargs: dict[str, JsonValue] = {}


class Range(Section):
    min: float | None = None
    max: float | None = None


class Validate(Section):
    min_per_class: Count = 4
    classes: Annotated[tuple[str, ...], Field(strict=False)] | None = None
    not_null: Annotated[tuple[str, ...], Field(strict=False)] = ()
    unique: Annotated[tuple[str, ...], Field(strict=False)] = ()
    ranges: dict[str, Range] = {}
    types: dict[str, str] = {}
    expectations: Annotated[tuple[Expectation, ...], Field(strict=False)] = ()
    allow: Annotated[tuple[Literal["constant", "identifier"], ...], Field(strict=False)] = ()


class Split(Section):
    test: Share = 0.2
    validation: Share = 0.1
    group: str | None = None
    max_overlap: Annotated[float, Field(ge=0, le=1)] = 0.01

    @model_validator(mode="after")
    def _leaves_training_data(self) -> Split:
        if self.test + self.validation >= 1:
            raise ValueError(f"test {self.test} + validation {self.validation} must be below 1")
        return self
