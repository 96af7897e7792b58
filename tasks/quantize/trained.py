"""Schemes that choose bits by layer or train: each begins with the static INT8 file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Final

import onnx

from tasks.data.splits import Splits
from tasks.params import Mixed, Qat, StaticInt8
from tasks.quantize.int8 import Weights
from tasks.quantize.judge import Judge
from tasks.quantize.mixed import assign
from tasks.quantize.narrow import narrow, weight_bytes
from tasks.quantize.portability import accuracies
from tasks.quantize.retrain import Coach
from tasks.quantize.schemes import Made, prepared

LEAST: Final = 0.002  # a first convolution, say: it harms most, for a few bytes


def mixed(model: onnx.ModelProto, params: Mixed, data: Splits, seed: int, coach: Coach) -> Made:
    """Weights in few bits where the drop allows it, and training of the whole where that is wanted."""
    build, facts = prepared(model, params, data, seed)
    whole = build(kind(params), activation=params.activation)
    facts["activation"] = {"type": params.activation}
    saved = worthwhile({layer: size - size // 2 for layer, size in weight_bytes(whole).items()})
    made, rows = assign(
        saved,
        lambda cheap: narrow(whole, dict.fromkeys(cheap, params.bits)),
        Judge(model, data.validation),
        params.max_drop,
    )
    facts["weight_bits"] = dict.fromkeys(weight_bytes(whole), 8) | {row.layer: params.bits for row in rows if row.cheap}
    facts["sensitivity"] = [asdict(row) for row in rows]
    if params.training:
        made, facts["training"] = coach.train(made, params.training, model)
    return made, facts | portability(made, params, data, seed)


def worthwhile(saved_bytes: Mapping[str, int]) -> dict[str, int]:
    """Without what saves less than LEAST of the whole: chance would hide the harm of some, and nothing is won."""
    least = LEAST * sum(saved_bytes.values())
    return {layer: saved for layer, saved in saved_bytes.items() if saved >= least}


def qat(model: onnx.ModelProto, params: Qat, data: Splits, seed: int, coach: Coach) -> Made:
    """Training with every weight in few bits that saves something so, or in eight."""
    build, facts = prepared(model, params, data, seed)
    made = build(kind(params), activation=params.activation)
    facts["activation"] = {"type": params.activation}
    full = weight_bytes(made)
    few = dict.fromkeys(worthwhile(full), params.bits)
    if params.bits < 8:
        made = narrow(made, few)
    made, facts["training"] = coach.train(made, params.training, model)
    facts["weight_bits"] = dict.fromkeys(full, 8) | few
    return made, facts | portability(made, params, data, seed)


def kind(params: StaticInt8) -> Weights:
    """Of eight-bit weights: with seven no processor saturates, and training makes up for the eighth."""
    return "reduced" if params.portable else "signed"


def portability(model: onnx.ModelProto, params: StaticInt8, data: Splits, seed: int) -> dict[str, Any]:
    """What the file answers on other processors, where that is asked for, as facts."""
    if not params.portable:
        return {}
    samples = data.validation.first(params.portable_samples, seed)
    weights = kind(params)
    return {
        "portability": {
            "samples": len(samples),
            "weights": weights,
            "accuracy": {weights: accuracies(model, samples)},
        }
    }


TRAINED: Final[Mapping[str, Callable[..., Made]]] = {"mixed": mixed, "qat": qat}
