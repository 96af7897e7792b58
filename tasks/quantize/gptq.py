"""GPTQ: weights are rounded column by column, and those after each make up for what it lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from tasks.quantize.layers import Gram, Layer, output_error
from tasks.quantize.stored import Grouped
from tasks.quantize.weights import Floats, hqq, levels_of, rtn

BLOCK: Final = 128  # columns whose later ones are updated at once


def gptq(groups: Floats, gram: Gram, *, bits: int, damping: float, activation_order: bool) -> Grouped:
    """hqq's scales and zero points, with levels for the least squared error of the layer's output.

    Args:
        groups: (outputs, groups, size), the last group filled up.
        gram: (inputs, inputs), of the layer's inputs; see layers.grams.
        damping: added to its diagonal, as a share of the diagonal's mean.
        activation_order: begin with the inputs of the largest squares, not with the first; groups stay as they are.

    Frantar et al. 2022, arXiv:2210.17323; the order, and scales known beforehand, are from the authors' later code,
    which takes rtn's.
    """
    plain = hqq(groups, bits=bits)
    inputs, size = len(gram), groups.shape[2]
    diagonal = np.diagonal(gram)
    order = np.argsort(-diagonal, kind="stable") if activation_order else np.arange(inputs)
    damped = gram + max(damping * float(diagonal.mean()), 1e-12) * np.eye(inputs)
    # its row i, from i on: of the inverse without all inputs before i
    inverse = np.linalg.cholesky(np.linalg.inv(damped[np.ix_(order, order)])).T
    weights = groups.reshape(len(groups), -1)[:, order].astype(np.float64)
    levels = plain.levels.reshape(len(groups), -1).copy()
    scale, zero = (np.repeat(part[..., 0], size, 1)[:, order, None] for part in (plain.scale, plain.zero))
    for start in range(0, inputs, BLOCK):
        own = slice(start, start + BLOCK)
        errors = np.zeros_like(weights[:, own])
        for column in range(start, min(start + BLOCK, inputs)):
            found = levels_of(weights[:, column, None].astype(np.float32), scale[:, column], zero[:, column], bits)
            value = Grouped(found, scale[:, column], zero[:, column], bits).values[:, 0]
            errors[:, column - start] = (weights[:, column] - value) / inverse[column, column]
            weights[:, column : own.stop] -= np.outer(errors[:, column - start], inverse[column, column : own.stop])
            levels[:, order[column]] = found[:, 0]
        weights[:, own.stop :] -= errors @ inverse[own, own.stop :]
    return Grouped(levels.reshape(groups.shape), plain.scale, plain.zero, bits)


@dataclass
class GptqOrRtn:
    """For each layer GPTQ's levels, or the nearest ones where these are better by the layer's output on the samples.

    grams: by weight, (groups, inputs, inputs). errors: {"rtn", "gptq"} of each layer done, by title; see output_error.
    """

    grams: Mapping[str, Gram]
    bits: int
    damping: float
    activation_order: bool
    errors: dict[str, dict[str, float]] = field(default_factory=dict)

    def __call__(self, layer: Layer, groups: Floats) -> Grouped:
        """groups: (outputs, groups, size), of all groups of a convolution."""
        gram = self.grams[layer.weight]
        knobs: dict[str, Any] = {"damping": self.damping, "activation_order": self.activation_order}
        parts = [
            gptq(part, one, bits=self.bits, **knobs)
            for part, one in zip(np.split(groups, len(gram)), gram, strict=True)
        ]
        found = {"rtn": rtn(groups, bits=self.bits), "gptq": _joined(parts)}
        inputs = gram.shape[1]
        errors = {
            name: output_error((one.values - groups).reshape(len(groups), -1)[:, :inputs], gram)
            for name, one in found.items()
        }
        self.errors[layer.title] = errors
        return found[min(errors, key=lambda name: errors[name])]

    def facts(self) -> dict[str, Any]:
        """How many layers there are, which were better off with the nearest levels, and the error that was left."""
        kept = [name for name, errors in self.errors.items() if errors["rtn"] <= errors["gptq"]]
        ratios = [min(errors.values()) / errors["rtn"] for errors in self.errors.values() if errors["rtn"] > 0]
        return {
            "layers": len(self.errors),
            "kept_rtn": kept[::-1],
            "output_error_vs_rtn": float(np.mean(ratios)) if ratios else 1.0,
        }


def _joined(parts: list[Grouped]) -> Grouped:
    levels, scale, zero = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("levels", "scale", "zero")
    )
    return Grouped(levels, scale, zero, parts[0].bits)
