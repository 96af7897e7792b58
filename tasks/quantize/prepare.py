"""What static schemes do to float weights before any integer is put in: make them even, and put them on the grid."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import onnx

from tasks.params import AdaRound, Static
from tasks.quantize.adaround import adaround
from tasks.quantize.equalise import correct_biases, equalise
from tasks.quantize.inner import Values
from tasks.quantize.layers import grams, layers
from tasks.quantize.smooth import smooth

Batches = Callable[[], Iterable[Values]]


def evened(model: onnx.ModelProto, params: Static, batches: Batches) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """The same function with scales moved between neighbours, as far as params ask for it, and the facts of it."""
    facts: dict[str, Any] = {}
    if params.equalise:
        model, facts["equalised_pairs"] = equalise(model)
    if params.smooth is not None:
        model, facts["smoothed_products"] = smooth(model, batches, params.smooth)
    return model, facts


def rounder(
    model: onnx.ModelProto, params: Static, batches: Batches, facts: dict[str, Any]
) -> Callable[[int], onnx.ModelProto]:
    """A function from the greatest level of a weight to the model that is best rounded to so many levels.

    What it did joins the facts, that of AdaRound by greatest level.
    """

    @cache
    def rounded(largest: int) -> onnx.ModelProto:
        made = model
        if isinstance(params.rounding, AdaRound):
            observed = grams(model, layers(model.graph), batches)
            made, found = adaround(made, observed, largest=largest, steps=params.rounding.steps)
            facts.setdefault("adaround", {})[f"{largest}"] = found
        if params.correct_bias:
            made, facts["corrected_layers"] = correct_biases(made, batches, largest=largest, reference=model)
        return made

    return rounded
