"""Ever costlier remedies for what INT8 loses, until it loses no more than is allowed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from math import prod

import onnx

from tasks.data.splits import Splits
from tasks.measure.budget import Limits
from tasks.params import Auto, Int8, Qat, StaticInt8
from tasks.quantize.judge import Judge, Judgement
from tasks.quantize.mixed import assign
from tasks.quantize.qdq import HEAVY
from tasks.quantize.retrain import Coach
from tasks.quantize.schemes import Made, activations, int8, prepared
from tasks.quantize.trained import judge_by, kind, portability, qat

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rung(Judgement):
    """One remedy: its file on all validation samples, and what it took."""

    rung: str
    seconds: float


@dataclass
class _Climber:
    judge: Judge
    allowed: str
    rungs: list[Rung] = field(default_factory=list)
    made: list[Made] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def holds(self, name: str, make: Callable[[], Made]) -> bool:
        """Try a rung; whether it is inside."""
        self.made.append(make())
        judgement = self.judge(self.made[-1][0])
        now = time.monotonic()
        self.rungs.append(Rung(**asdict(judgement), rung=name, seconds=now - self.started))
        self.started = now
        log.info(
            "quantize: %s: %s bytes, accuracy %.4f, a drop of %.4f, at most %.4f, %s %s, %.1f s",
            *(name, f"{judgement.size_bytes:,}", judgement.accuracy, judgement.accuracy_drop),
            *(judgement.accuracy_drop_upper95, "within" if judgement.inside else "outside", self.allowed),
            self.rungs[-1].seconds,
        )
        return judgement.inside

    def best(self) -> int:
        """Where the rung with the least drop stands; of equals the first, which costs least."""
        return min(range(len(self.rungs)), key=lambda place: self.rungs[place].accuracy_drop)


def climb(model: onnx.ModelProto, params: Int8, limits: Limits, coach: Coach) -> tuple[Made, Rung, list[Rung]]:
    """The first rung inside, or the one that loses least where none is; its file, and all that were tried.

    Mixed precision and training begin with the calibration, equalisation and correction that lost least.
    """
    data, seed = coach.data, coach.seed
    allowed = "the budget" if params.max_drop == "budget" else f"quantize.max_drop {params.max_drop:g}"
    climber = _Climber(judge_by(model, params.max_drop, limits, coach), allowed)
    plain = _plain(params)
    for name, own in plain.items():
        if climber.holds(name, lambda own=own: int8(model, own, data, seed)):  # type: ignore[misc]
            return climber.made[-1], climber.rungs[-1], climber.rungs
    best = list(plain.values())[climber.best()]
    inside = climber.holds("mixed precision", lambda: _mixed(model, best, data, seed, climber.judge))
    if params.training and not inside:
        inside = climber.holds("training", lambda: qat(model, _as_qat(best), limits, coach))
    place = len(climber.rungs) - 1 if inside else climber.best()
    if not inside:
        log.warning(
            "quantize: no rung is within %s; %s, with a drop of %.4f, is taken",
            *(allowed, climber.rungs[place].rung, climber.rungs[place].accuracy_drop),
        )
    return climber.made[place], climber.rungs[place], climber.rungs


def _plain(params: Int8) -> dict[str, Int8]:
    """The rungs that only calibrate and shift, without those that the params have taken already."""
    by_tensor = params.model_copy(update={"calibration": Auto(method="auto", samples=params.calibration.samples)})
    corrected = by_tensor.model_copy(update={"equalise": True, "correct_bias": True})
    rungs = {"static INT8": params, "calibration by tensor": by_tensor, "equalisation, bias correction": corrected}
    first = {own: name for name, own in reversed(rungs.items())}
    return {name: own for name, own in rungs.items() if first[own] == name}


def _mixed(model: onnx.ModelProto, params: Int8, data: Splits, seed: int, judge: Judge) -> Made:
    """The layers that harm most stay in float, beside those that params leave there anyway."""
    build, facts = prepared(model, params, data, seed)
    activation = activations(params)
    sizes = {item.name: 3 * prod(item.dims) for item in model.graph.initializer}
    saved = {
        node.name: sizes[node.input[1]]
        for node in model.graph.node
        if node.op_type in HEAVY and node.input[1] in sizes and node.name not in params.in_float
    }
    weights, layers = kind(params), frozenset(saved)
    made, rows = assign(
        saved,
        lambda cheap: build(weights, activation=activation, in_float=layers - cheap),
        judge,
    )
    facts["activation"] = {"type": activation}
    facts["in_float"] = [row.layer for row in rows if not row.cheap]
    facts["sensitivity"] = [asdict(row) for row in rows]
    return made, facts | portability(made, params, data, seed)


def _as_qat(params: Int8) -> Qat:
    """The same, with the training for its scheme."""
    shared = {name: getattr(params, name) for name in (*StaticInt8.model_fields, "training")}
    return Qat(scheme="qat", **shared)
