"""distill: train the student towards the teacher, and the same student alone, its baseline."""

from __future__ import annotations

from dataclasses import replace

from tasks import checkpoint
from tasks.data.splits import Splits, load_splits, moments
from tasks.export.onnx import export
from tasks.files import Files
from tasks.measure.accuracy import accuracy, logits
from tasks.measure.size import macs, parameters
from tasks.params import Distill
from tasks.training.curves import write_curves
from tasks.training.loop import fit_
from tasks.training.losses import DistillationLoss, objective


def distill(params: Distill, seed: int, files: Files) -> dict[str, float]:
    """Two trainings from the same initial weights, on the same samples, for the same epochs."""
    data = load_splits(files.reads)
    teacher = checkpoint.load(files.reads["teacher"], data.card)
    taught = replace(data, coreset=replace(data.coreset, teacher_logits=logits(teacher, data.coreset)))
    loss = objective(params.losses, params.target_weight)
    alone = _train(params, seed, data, files, "student_alone", None)
    student = _train(params, seed, taught, files, "student", loss)
    return {
        "accuracy": student["accuracy"],
        "accuracy_alone": alone["accuracy"],
        "accuracy_teacher": accuracy(teacher, data.validation),
        "macs": student["macs"],
        "parameters": student["parameters"],
    }


def _train(
    params: Distill, seed: int, data: Splits, files: Files, name: str, loss: DistillationLoss | None
) -> dict[str, float]:
    folder = files.writes[name]
    model = checkpoint.build(params.model, data.card, moments(data.train), seed, "distill.model")
    history = fit_(model, data.coreset, data.validation, params.train, seed=seed, series=name, loss=loss)
    checkpoint.save(model, data.card, folder, parent=None if loss is None else "teacher")
    write_curves(history, folder / "training.csv")
    export(model, data.card, data.validation, folder, "distill.model")
    return {
        "accuracy": accuracy(model, data.validation),
        "macs": macs(model, data.card.input_shape),
        "parameters": parameters(model),
    }
