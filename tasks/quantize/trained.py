"""Schemes that choose bits by layer or train: each begins with the static INT8 file."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Final, Literal

import onnx

from tasks.data.batches import classes_of
from tasks.data.splits import Splits
from tasks.measure.accuracy import logits as network_logits
from tasks.measure.budget import Limits
from tasks.params import Mixed, Qat, StaticInt8
from tasks.quantize.int8 import Weights
from tasks.quantize.judge import Judge, Remaining
from tasks.quantize.mixed import assign
from tasks.quantize.narrow import narrow, weight_bytes
from tasks.quantize.portability import emulated
from tasks.quantize.retrain import Coach
from tasks.quantize.schemes import Made, activations, prepared

log = logging.getLogger(__name__)
LEAST: Final = 0.002  # a first convolution, say: it harms most, for a few bytes


def mixed(model: onnx.ModelProto, params: Mixed, limits: Limits, coach: Coach) -> Made:
    """Weights in few bits where the drop allows it, and training of the whole where that is wanted."""
    data, seed = coach.data, coach.seed
    build, facts = prepared(model, params, data, seed)
    activation = activations(params)
    whole = build(kind(params), activation=activation)
    facts["activation"] = {"type": activation}
    saved = worthwhile({layer: size - size // 2 for layer, size in weight_bytes(whole).items()})
    made, rows = assign(
        saved,
        lambda cheap: narrow(whole, dict.fromkeys(cheap, params.bits)),
        judge_by(model, params.max_drop, limits, coach),
    )
    facts["weight_bits"] = dict.fromkeys(weight_bytes(whole), 8) | {row.layer: params.bits for row in rows if row.cheap}
    facts["sensitivity"] = [asdict(row) for row in rows]
    if params.training:
        made, facts["training"] = coach.train(made, params.training, model)
    return made, facts | portability(made, params, data, seed)


def judge_by(model: onnx.ModelProto, max_drop: float | Literal["budget"], limits: Limits, coach: Coach) -> Judge:
    """By the drop against the float file; or by the budget's limits against the teacher, as the gate judges."""
    validation = coach.data.validation
    if max_drop != "budget":
        return Judge(model, validation, max_drop)
    taught = network_logits(coach.guide("teacher"), validation).argmax(1).numpy()
    judge = Judge(model, validation, Remaining(limits, taught == classes_of(validation.targets(slice(None))).numpy()))
    if judge.used_up:
        log.warning(
            "quantize: the float file itself is outside the budget, with a drop of up to %.4f; its files must lose no "
            "more than it does",
            judge.itself.accuracy_drop_upper95,
        )
    return judge


def worthwhile(saved_bytes: Mapping[str, int]) -> dict[str, int]:
    """Without what saves less than LEAST of the whole: chance would hide the harm of some, and nothing is won."""
    least = LEAST * sum(saved_bytes.values())
    return {layer: saved for layer, saved in saved_bytes.items() if saved >= least}


def qat(model: onnx.ModelProto, params: Qat, limits: Limits, coach: Coach) -> Made:
    """Training with every weight in few bits that saves something so, or in eight."""
    data, seed = coach.data, coach.seed
    build, facts = prepared(model, params, data, seed)
    activation = activations(params)
    made = build(kind(params), activation=activation)
    facts["activation"] = {"type": activation}
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
    accuracy, moved = emulated(model, samples)
    found = {"samples": len(samples), "weights": weights, "accuracy": {weights: accuracy}, "moved": {weights: moved}}
    return {"portability": found}


TRAINED: Final[Mapping[str, Callable[..., Made]]] = {"mixed": mixed, "qat": qat}
