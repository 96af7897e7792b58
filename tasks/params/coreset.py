"""coreset: one section per selection method."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tasks.params.section import Count, Fraction, Section


class Proxy(Section):
    """The small network whose last hidden layer supplies the features."""

    epochs: Count = 5
    width: Count = 32


class Selection(Section):
    """What every selection needs: a budget, as a fraction of the training split or a count per class."""

    fraction: Fraction | None = None
    per_class: Count | None = None
    features: Literal["proxy", "raw"] = "proxy"
    proxy: Proxy = Proxy()

    @model_validator(mode="after")
    def _one_budget(self) -> Selection:
        if (self.fraction is None) == (self.per_class is None):
            raise ValueError("give exactly one of fraction and per_class")
        return self


class RandomSelection(Selection):
    method: Literal["random"]


class Stratified(Selection):
    method: Literal["stratified"]


class KMeans(Selection):
    method: Literal["k_means"]


class Herding(Selection):
    method: Literal["herding"]


class KCenter(Selection):
    method: Literal["k_center"]


Coreset = Annotated[RandomSelection | Stratified | KMeans | Herding | KCenter, Field(discriminator="method")]
