"""prune: make the student smaller step by step, recovering towards the teacher after each."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace

from torch import Tensor, nn

from tasks import checkpoint
from tasks.data.splits import Splits, load_splits
from tasks.export.onnx import export
from tasks.files import Files
from tasks.measure.accuracy import accuracy, loss_and_accuracy
from tasks.measure.budget import Limits
from tasks.measure.size import macs, nonzero, parameters
from tasks.models.normalised import Normalised
from tasks.params import Prune, Train
from tasks.params.prune import ChannelPruning, CostTarget, HeadPruning, NmPruning, UnstructuredPruning
from tasks.prune.allocation import Sensitivity
from tasks.prune.cost import timed_operations
from tasks.prune.diary import Entry, Judge, judge_of
from tasks.prune.evidence import Evidence
from tasks.prune.ladder import climb, rung, rungs
from tasks.prune.matrices import surviving
from tasks.prune.operations import Operation
from tasks.prune.patterns import is_scanned_for, notes, scan, shrink_
from tasks.prune.schedules import SCHEDULES
from tasks.prune.scopes import best_scope
from tasks.training.curves import write_curves, write_rows
from tasks.training.loop import fit_
from tasks.training.objective import Objective
from tasks.training.scratch import Scratch, scratch_of
from tasks.training.state import Epoch, Lesson
from tasks.training.teachers import ask

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TimedEntry(Entry):
    """An entry of the diary with what the step took, cut, recovery and judgement; never an output of the stage."""

    seconds: float


@dataclass
class Recoverer:
    """Trains what was cut and keeps the record: curves and diary."""

    params: Prune
    teacher: Normalised
    data: Splits
    judge: Judge
    seed: int
    scratch: Scratch | None
    history: list[Epoch] = field(default_factory=list)
    diary: list[TimedEntry] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def recover_(
        self, model: nn.Module, train: Train, step: str, aim: float, keep: Mapping[str, Tensor] | None = None
    ) -> Entry:
        """Train `model` and judge it; `keep` as for fit_."""
        recovery, samples = self.params.recovery, self.data.coreset
        objective = Objective(recovery.losses, recovery.target_weight)
        answers = ask([self.teacher], samples, recovery.answers, objective, train, seed=self.seed, scratch=self.scratch)
        self.history += fit_(
            model,
            samples,
            self.data.validation,
            train,
            seed=self.seed,
            series=f"recovery_{len(self.diary) + 1}",
            lesson=Lesson(objective, answers),
            keep=keep,
            scratch=self.scratch,
        )
        entry = self.judge(model, step, aim)
        now = time.monotonic()
        self.diary.append(TimedEntry(**asdict(entry), seconds=now - self.started))
        self.started = now
        log.info(
            "prune: %s: %s MACs, accuracy %.4f, a drop of at most %.4f, %s the budget, %.1f s",
            *(step, f"{entry.macs:,}", entry.accuracy, entry.accuracy_drop_upper95),
            *("within" if entry.inside else "outside", self.diary[-1].seconds),
        )
        return entry


def prune(
    params: Prune, max_accuracy_drop: float, max_class_recall_drop: float | None, seed: int, files: Files
) -> dict[str, float]:
    """Scan every layer's sensitivity, plan, then cut and recover by the schedule, or down the ladder."""
    data = load_splits(files.reads)
    shape = data.card.input_shape
    teacher = checkpoint.load(files.reads["teacher"], data.card)
    model = checkpoint.load(files.reads["student"], data.card)
    dense = {"macs": macs(model, shape), "parameters": parameters(model), "accuracy": accuracy(model, data.validation)}
    subset = data.validation.first(params.sensitivity.samples, seed)

    def score(candidate: nn.Module) -> tuple[float, float]:
        return loss_and_accuracy(candidate, subset)

    evidence = Evidence(shape, score, data.coreset.first(params.calibration_samples, seed), seed, data.card)
    judge = judge_of(teacher, data.validation, Limits(max_accuracy_drop, max_class_recall_drop))
    recoverer = Recoverer(params, teacher, data, judge, seed, scratch_of(files.scratch, "prune", data.card.sha256))
    if _needs_operations(params):
        table = timed_operations(model, evidence)
        evidence = replace(evidence, operations=table)
        files.writes["diary"].mkdir(parents=True, exist_ok=True)
        write_rows(table.rows, Operation, files.writes["diary"] / "latency.csv")
    points = scan(model, params, evidence)
    for note in notes(model, params, evidence):
        log.warning("prune: %s", note)
    if params.target == "budget":
        model = _down_the_ladder(model, params, evidence, points, recoverer)
    else:
        params = _scoped(model, params, evidence, points, recoverer)
        _by_schedule_(model, params, evidence, points, recoverer)
    _write(model, data, points, recoverer, files)
    return {
        "accuracy": accuracy(model, data.validation),
        "accuracy_dense": dense["accuracy"],
        "macs": macs(model, shape),
        "macs_share": macs(model, shape) / dense["macs"],
        "parameters": parameters(model),
        "parameters_share": parameters(model) / dense["parameters"],
        "sparsity": 1 - nonzero(model) / parameters(model),
    }


def _by_schedule_(
    model: nn.Module, params: Prune, evidence: Evidence, points: list[Sensitivity], recoverer: Recoverer
) -> None:
    shares = SCHEDULES[params.schedule.method](getattr(params.schedule, "steps", 1))
    for step, keep in enumerate(shrink_(model, params, evidence, points, shares), 1):
        train = params.recovery.final if step == len(shares) else params.recovery.step
        recoverer.recover_(model, train, f"step {step}", shares[step - 1], keep)


def _scoped(
    model: nn.Module, params: Prune, evidence: Evidence, points: list[Sensitivity], recoverer: Recoverer
) -> Prune:
    """With scope auto, the scope by which the model, cut at once, does best on validation data after one step."""
    if not isinstance(params, ChannelPruning | HeadPruning) or params.scope != "auto":
        return params

    def cut(scope: str) -> nn.Module:
        candidate = deepcopy(model)
        list(shrink_(candidate, params.model_copy(update={"scope": scope}), evidence, points, [1.0]))
        return candidate

    def recover_(candidate: nn.Module, scope: str) -> float:
        return recoverer.recover_(candidate, params.recovery.step, f"scope {scope}", 1.0).accuracy

    chosen = best_scope(cut, recover_)
    log.info("prune: scope auto takes %s", chosen)
    return params.model_copy(update={"scope": chosen})


def _down_the_ladder(
    model: Normalised, params: Prune, evidence: Evidence, points: list[Sensitivity], recoverer: Recoverer
) -> Normalised:
    """The smallest model inside the budget, recovered at last as `recovery.final` says if that keeps it there."""

    def size(candidate: nn.Module) -> int:
        if isinstance(params, UnstructuredPruning | NmPruning):
            return sum(int(mask.sum()) for mask in surviving(candidate, params, evidence.input_shape).values())
        return macs(candidate, evidence.input_shape)

    def cut_(candidate: nn.Module, share: float) -> None:
        left = size(candidate) / dense
        own = scan(candidate, params, evidence) if left < 1 and is_scanned_for(params) else points
        cut = _scoped(candidate, rung(params, share, left), evidence, own, recoverer)
        list(shrink_(candidate, cut, evidence, own, [1.0]))

    def recover_(candidate: nn.Module, train: Train, step: str, aim: float) -> Entry:
        keep = None
        if isinstance(params, UnstructuredPruning | NmPruning):
            keep = surviving(candidate, params, evidence.input_shape)
        return recoverer.recover_(candidate, train, step, aim, keep)

    def recover_step_(candidate: nn.Module, step: str, aim: float) -> Entry:
        return recover_(candidate, params.recovery.step, step, aim)

    dense = size(model)
    best, entries = climb(model, rungs(params), size, cut_, recover_step_)
    inside = [entry for entry in entries if entry.inside]
    if not inside:
        log.warning(
            "prune: prune.target is budget, and no rung of the ladder is within it%s; the student is handed on whole",
            f": the largest has a drop of up to {entries[0].accuracy_drop_upper95:.4f}" if entries else "",
        )
    trained = deepcopy(best)
    last = recover_(trained, params.recovery.final, "final", inside[-1].aim if inside else 1.0)
    if inside and not last.inside:
        log.warning(
            "prune: the final recovery left the budget with a drop of up to %.4f; the model before it is handed on",
            last.accuracy_drop_upper95,
        )
        trained = best
    assert isinstance(trained, Normalised)
    return trained


def _needs_operations(params: Prune) -> bool:
    # only what channels cost can be foretold by it; heads and blocks are cut and measured
    if not isinstance(params, ChannelPruning) or not isinstance(params.target, CostTarget):
        return False
    return params.target.measure[0] == "latency"


def _write(model: Normalised, data: Splits, points: list[Sensitivity], recoverer: Recoverer, files: Files) -> None:
    folder = files.writes["pruned"]
    checkpoint.save(model, data.card, folder, parent="student")
    write_curves(recoverer.history, folder / "training.csv")
    write_rows(points, Sensitivity, folder / "sensitivity.csv")
    # no output may carry times: with them the diary lies beside
    entries = [
        Entry(**{key: value for key, value in asdict(row).items() if key != "seconds"}) for row in recoverer.diary
    ]
    write_rows(entries, Entry, folder / "diary.csv")
    files.writes["diary"].mkdir(parents=True, exist_ok=True)
    write_rows(recoverer.diary, TimedEntry, files.writes["diary"] / "diary.csv")
    export(model, data.card, data.validation, folder, "distill.model")
