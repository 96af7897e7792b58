"""What all sections share: strictness, bounded numbers, and the way to name a plug-in."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints

Share = Annotated[float, Field(gt=0, lt=1)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Dotted = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]


class Section(BaseModel):
    """A part of params.yaml: unknown keys refused, values never coerced, nothing changed after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Factory(Section):
    """`module:name` called with `args`: the one way to name a model, a data source or a loss."""

    factory: Dotted
    args: dict[str, JsonValue] = {}
