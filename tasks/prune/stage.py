"""prune: make the student smaller step by step, recovering towards the teacher after each."""

from __future__ import annotations

import logging
from copy import deepcopy

from torch import nn

from tasks import checkpoint
from tasks.data.splits import load_splits
from tasks.export.onnx import export
from tasks.files import Files
from tasks.measure.accuracy import accuracy, loss_and_accuracy
from tasks.measure.size import macs, nonzero, parameters
from tasks.params import ChannelPruning, Prune
from tasks.prune import structured, unstructured
from tasks.prune.allocation import Sensitivity
from tasks.prune.calibration import recalibrate_
from tasks.prune.evidence import Evidence
from tasks.prune.schedules import SCHEDULES
from tasks.training.curves import write_curves, write_rows
from tasks.training.loop import fit_
from tasks.training.objective import Objective
from tasks.training.scratch import scratch_of
from tasks.training.state import Epoch, Lesson
from tasks.training.teachers import ask

log = logging.getLogger(__name__)


def prune(params: Prune, seed: int, files: Files) -> dict[str, float]:
    """Scan every layer's sensitivity, plan, then cut and recover by the schedule."""
    data = load_splits(files.reads)
    shape = data.card.input_shape
    teacher = checkpoint.load(files.reads["teacher"], data.card)
    model = checkpoint.load(files.reads["student"], data.card)
    dense = {"macs": macs(model, shape), "parameters": parameters(model), "accuracy": accuracy(model, data.validation)}
    scratch = scratch_of(files.scratch, "prune", data.card.sha256)
    subset = data.validation.first(params.sensitivity.samples, seed)
    objective = Objective(params.recovery.losses, params.recovery.target_weight)

    def score(candidate: nn.Module) -> tuple[float, float]:
        return loss_and_accuracy(candidate, subset)

    evidence = Evidence(shape, score, data.coreset.first(params.calibration_samples, seed), seed)
    baseline, _ = score(_recalibrated(model, params, evidence))
    shares = SCHEDULES[params.schedule.method](getattr(params.schedule, "steps", 1))
    # one pattern's params fit its own functions only, and mypy follows each branch
    if isinstance(params, ChannelPruning):
        points = structured.scan(model, params, evidence)
        steps = structured.shrink_(model, params, evidence, points, baseline, shares)
    else:
        for note in unstructured.notes(model, params):
            log.warning("prune: %s", note)
        points = unstructured.scan(model, params, evidence)
        steps = unstructured.shrink_(model, params, evidence, shares)
    history: list[Epoch] = []
    for step, keep in enumerate(steps, 1):
        train = params.recovery.final if step == len(shares) else params.recovery.step
        answers = ask([teacher], data.coreset, params.recovery.answers, objective, train, seed=seed, scratch=scratch)
        history += fit_(
            model,
            data.coreset,
            data.validation,
            train,
            seed=seed,
            series=f"recovery_{step}",
            lesson=Lesson(objective, answers),
            keep=keep,
            scratch=scratch,
        )
    folder = files.writes["pruned"]
    checkpoint.save(model, data.card, folder, parent="student")
    write_curves(history, folder / "training.csv")
    write_rows(points, Sensitivity, folder / "sensitivity.csv")
    export(model, data.card, data.validation, folder, "distill.model")
    return {
        "accuracy": accuracy(model, data.validation),
        "accuracy_dense": dense["accuracy"],
        "macs": macs(model, shape),
        "macs_share": macs(model, shape) / dense["macs"],
        "parameters": parameters(model),
        "parameters_share": parameters(model) / dense["parameters"],
        "sparsity": 1 - nonzero(model) / parameters(model),
    }


def _recalibrated(model: nn.Module, params: Prune, evidence: Evidence) -> nn.Module:
    """What the scan's losses are measured against: statistics from the same samples as theirs."""
    if not params.recalibrate or evidence.samples is None:
        return model
    fresh = deepcopy(model)
    recalibrate_(fresh, evidence.samples)
    return fresh
