"""What the rows of the pruning benchmark measure: cuts of ours and of torch-pruning, before and after training."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Final

import fashion
from pruning_by_hand import by_hand
from pruning_headline import Row
from torch import nn

from tasks.data.splits import Splits
from tasks.measure.accuracy import accuracy, loss_and_accuracy
from tasks.measure.size import macs, parameters
from tasks.models.normalised import Normalised
from tasks.params import load_params
from tasks.params.prune import ChannelPruning
from tasks.params.training import Train
from tasks.prune import structured
from tasks.prune.allocation import Sensitivity
from tasks.prune.calibration import recalibrate_
from tasks.prune.cost import deployed, relative_latency
from tasks.prune.evidence import Evidence
from tasks.prune.scopes import best_scope
from tasks.training.loop import fit_
from tasks.training.objective import Objective
from tasks.training.scratch import Scratch
from tasks.training.state import Lesson
from tasks.training.teachers import ask

CRITERIA: Final = ("l1", "l2", "bn_scale", "taylor", "fpgm", "random")
LONGEST: Final = "l1"  # criterion of what is trained longest, by scope auto
OURS: Final = ("taylor", "global")  # criterion and scope of what is trained beside torch-pruning, without a scan
RIVALS: Final = ("magnitude", "taylor, global")  # of torch-pruning: its README's example, and the one by gradients
CUTS: Final = (0.5, 0.7, 0.85, 0.95)  # shares of the multiply-accumulates that go
HEADLINE_CUT: Final = 0.715
LONG, SHORT, BRIEF = 15, 4, 1  # epochs of recovery
SAMPLES: Final = 256
STEPS: Final = {"before": (False, False), "recalibrated": (True, False), "compensated": (True, True)}


@dataclass
class Bench:
    """What all rows share; scans are made once per criterion and seed."""

    name: str
    splits: Splits
    dense: Normalised
    teacher: Normalised  # whose answers recovery learns
    facts: Row
    sizes: dict[tuple[str, float], int] = field(default_factory=dict)  # what torch-pruning left, by way and cut
    scans: dict[tuple[str, int], tuple[list[Sensitivity], float]] = field(default_factory=dict)

    def evidence(self, seed: int) -> Evidence:
        """Validation loss on 1,000 samples, and the training samples of that seed."""
        subset = self.splits.validation.first(1000, seed)
        samples = self.splits.train.first(SAMPLES, seed)
        return Evidence(self.splits.card.input_shape, lambda model: loss_and_accuracy(model, subset), samples, seed)

    def scan(self, criterion: str, seed: int) -> tuple[list[Sensitivity], float]:
        """Of the dense model, and its loss before."""
        if (criterion, seed) not in self.scans:
            evidence, baseline = self.evidence(seed), deepcopy(self.dense)
            recalibrate_(baseline, self.splits.train.first(SAMPLES, seed))
            points = structured.scan(self.dense, _params(criterion, CUTS[0]), evidence)
            self.scans[criterion, seed] = (points, evidence.score(baseline)[0])
        return self.scans[criterion, seed]

    def costs(self, model: nn.Module) -> Row:
        """Both accuracies and what the model costs on paper."""
        return {
            "accuracy": accuracy(model, self.splits.test),
            "validation": accuracy(model, self.splits.validation),
            "macs": macs(model, self.splits.card.input_shape),
            "parameters": parameters(model),
        }


def cut_ours(bench: Bench, criterion: str, cut: float, seed: int, step: str) -> Normalised:
    """The model without a share of its multiply-accumulates, spread over the layers by the sensitivity scan."""
    recalibrate, compensate = STEPS[step]
    params = _params(criterion, cut, recalibrate=recalibrate, compensate=compensate)
    evidence, model = bench.evidence(seed), deepcopy(bench.dense)
    list(structured.shrink_(model, params, evidence, *bench.scan(criterion, seed), [1.0]))
    return model


def cut_peer(bench: Bench, peer: str, cut: float, *, once: bool = False) -> Normalised:
    """By torch-pruning, to the share of the multiply-accumulates that is nearest."""
    target = (1 - cut) * macs(bench.dense, bench.splits.card.input_shape)
    samples = bench.splits.train.first(SAMPLES, 0)
    return by_hand(bench.dense, samples, peer, target, _round_to(cut), once=once)


def one_shot(bench: Bench, criterion: str, cut: float, seed: int, epochs: int) -> Row:
    """Accuracy as cut, with new BatchNorm statistics, with the next layers refitted too, and after short recovery."""
    models = {step: cut_ours(bench, criterion, cut, seed, step) for step in STEPS}
    row: Row = {f"accuracy_{step}": accuracy(model, bench.splits.test) for step, model in models.items()}
    model = models["compensated"]
    row["validation_compensated"] = accuracy(model, bench.splits.validation)
    row["macs"] = macs(model, bench.splits.card.input_shape)
    _train_(bench, model, _recovery().final.model_copy(update={"epochs": epochs}), seed)
    return {**row, "accuracy_recovered": accuracy(model, bench.splits.test)}


def one_shot_peer(bench: Bench, peer: str, cut: float, seed: int, epochs: int) -> Row:
    """The same of torch-pruning, which does not refit."""
    model = cut_peer(bench, peer, cut)
    row: Row = {
        "macs": macs(model, bench.splits.card.input_shape),
        "accuracy_before": accuracy(model, bench.splits.test),
    }
    recalibrate_(model, bench.splits.train.first(SAMPLES, seed))
    row["accuracy_recalibrated"] = accuracy(model, bench.splits.test)
    _train_(bench, model, _recovery().final.model_copy(update={"epochs": epochs}), seed)
    return {**row, "accuracy_recovered": accuracy(model, bench.splits.test)}


def alone(bench: Bench, criterion: str, cut: float, seed: int, epochs: int) -> Row:
    """Cut to a share by scope auto and refitted, then trained towards the teacher; its trials cost beside that."""
    evidence, begun = bench.evidence(seed), time.process_time()

    def cut_by(scope: str) -> Normalised:
        params, model = _params(criterion, cut, 1 - cut, compensate=True, scope=scope), deepcopy(bench.dense)
        list(structured.shrink_(model, params, evidence, *bench.scan(criterion, seed), [1.0]))
        return model

    def recover_(candidate: nn.Module, _: str) -> float:
        _train_(bench, candidate, _recovery().step, seed)
        return accuracy(candidate, bench.splits.validation)

    scope = best_scope(cut_by, recover_)
    seconds = round(time.process_time() - begun, 1)
    return {"scope": scope, "trials_cpu_s": seconds, **_recovered(bench, cut_by(scope), seed, epochs)}


def recovered(bench: Bench, rival: str, cut: float, seed: int, epochs: int) -> Row:
    """Cut in one way at every ratio, to the multiply-accumulates that torch-pruning leaves, then trained."""
    criterion, scope = OURS
    params = _params(criterion, cut, _share(bench, rival, cut), compensate=True, scope=scope)
    model = deepcopy(bench.dense)
    list(structured.shrink_(model, params, bench.evidence(seed), [], 0.0, [1.0]))
    return _recovered(bench, model, seed, epochs)


def recovered_peer(bench: Bench, peer: str, cut: float, seed: int, epochs: int) -> Row:
    """Cut by torch-pruning, then trained in the very same way."""
    return _recovered(bench, cut_peer(bench, peer, cut), seed, epochs)


def select(bench: Bench, criterion: str, cut: float, seed: int, epochs: int) -> Row:
    """Seconds to choose the channels for a target in MACs, and to cut them: medians of three, in turns.

    By Taylor's criterion with one threshold for all, or by magnitude, the share of each layer alike. torch-pruning asks
    for gradients at every ratio that is tried, as its examples do; for the second figure they are kept instead.
    """
    own, peer, scope = (
        ("taylor", "taylor, global", "global") if criterion == "taylor" else ("l1", "magnitude", "uniform")
    )

    def ours(scope: str) -> None:
        params = _params(own, cut, recalibrate=False, scope=scope)
        evidence, model = bench.evidence(seed), deepcopy(bench.dense)
        points = structured.scan(model, params, evidence) if scope == "sensitivity" else []
        baseline = evidence.score(model)[0] if scope == "sensitivity" else 0.0
        list(structured.shrink_(model, params, evidence, points, baseline, [1.0]))

    calls: dict[str, Callable[[], object]] = {
        "seconds_without_scan": lambda: ours(scope),
        "seconds_with_scan": lambda: ours("sensitivity"),
        "seconds_torch_pruning": lambda: cut_peer(bench, peer, cut),
        "seconds_torch_pruning_one_gradient": lambda: cut_peer(bench, peer, cut, once=True),
    }
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(3):
        for name, call in calls.items():
            begun = time.process_time()
            call()
            seconds[name].append(time.process_time() - begun)
    return {name: statistics.median(own) for name, own in seconds.items()}


def _share(bench: Bench, rival: str, cut: float) -> float:
    """Of the multiply-accumulates, what torch-pruning leaves in this way when it is asked for this cut."""
    shape = bench.splits.card.input_shape
    if (rival, cut) not in bench.sizes:
        bench.sizes[rival, cut] = macs(cut_peer(bench, rival, cut), shape)
    return bench.sizes[rival, cut] / macs(bench.dense, shape)


def _recovered(bench: Bench, model: Normalised, seed: int, epochs: int) -> Row:
    splits, begun = bench.splits, time.process_time()
    _train_(bench, model, _recovery().final.model_copy(update={"epochs": epochs}), seed)
    seconds = time.process_time() - begun
    one = splits.test.first(1, 0)
    reference = deployed(bench.dense, splits.card, one)
    latency = relative_latency(deployed(model, splits.card, one), reference, one)
    return {**bench.costs(model), "latency_share": latency, "cpu_s": round(seconds, 1)}


def _train_(bench: Bench, model: nn.Module, train: Train, seed: int) -> None:
    recovery, splits = _recovery(), bench.splits
    objective = Objective(recovery.losses, recovery.target_weight)
    scratch = Scratch(fashion.WORK / "scratch", "bench", splits.card.sha256)
    answers = ask([bench.teacher], splits.train, recovery.answers, objective, train, seed=seed, scratch=scratch)
    lesson = Lesson(objective, answers)
    fit_(model, splits.train, splits.validation, train, seed=seed, series="recovery", lesson=lesson)


def _params(
    criterion: str,
    cut: float,
    share: float | None = None,
    *,
    recalibrate: bool = True,
    compensate: bool = False,
    scope: str = "sensitivity",
) -> ChannelPruning:
    return ChannelPruning.model_validate(
        {
            "pattern": "channel",
            "target": {"macs": 1 - cut if share is None else share},
            "criterion": {"method": criterion},
            "scope": scope,
            "sensitivity": {"ratios": [0.25, 0.5, 0.75, 0.9]},
            "round_to": _round_to(cut),
            "recalibrate": recalibrate,
            "compensate": compensate,
        }
    )


def _round_to(cut: float) -> int:
    """Fewer channels are left at high ratios than multiples of 8 can share out."""
    return 8 if cut < 0.8 else 4


def _recovery() -> Any:
    return load_params(fashion.RECIPE).prune.recovery


def recipe(bench: Bench) -> str:
    """Rows of another teacher, recovery or choice of channels are not taken up."""
    return f"{bench.facts['recipe']} {bench.facts['accuracy']} {_recovery().model_dump_json()} {SAMPLES} {OURS}"


MEASURES: Final[dict[str, Callable[[Bench, str, float, int, int], Row]]] = {
    "one shot": one_shot,
    "one shot peer": one_shot_peer,
    "alone": alone,
    "recovered": recovered,
    "recovered peer": recovered_peer,
    "select": select,
}
