"""coreset: the small networks that supply evidence, and those that judge."""

from __future__ import annotations

from pydantic import model_validator

from tasks.params.section import Count, Factory, Section


class Proxy(Section):
    """The small network whose last hidden layer supplies the features, and whose learning says what is hard.

    early: the epoch after which the probabilities are read that el2n, grand, margin and entropy go by.
    """

    epochs: Count = 5
    width: Count = 32
    early: Count = 1

    @model_validator(mode="after")
    def _early_enough(self) -> Proxy:
        if self.early > self.epochs:
            raise ValueError(f"early is {self.early}; it must be at most epochs, {self.epochs}")
        return self


class Judge(Section):
    """Small networks of two architectures, of `proxy.width`, trained on the chosen samples and on random ones.

    epochs: passes over the whole training split, as steps that every training takes alike (100 to 1000 of them).
    seeds: random sets, each with its own initial weights.
    student: a further network, such as distill.model, trained in the same way; the verdict is of all alike.
    """

    epochs: Count = 5
    seeds: Count = 3
    student: Factory | None = None
