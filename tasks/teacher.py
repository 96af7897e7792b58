"""teacher: train the reference model on the full training split, or take the user's checkpoint."""

from __future__ import annotations

from pathlib import Path

from tasks import checkpoint
from tasks.data.splits import load_splits, moments
from tasks.export.onnx import export
from tasks.files import Files
from tasks.measure.accuracy import accuracy
from tasks.measure.size import macs, parameters
from tasks.params import Teacher
from tasks.training.curves import write_curves
from tasks.training.loop import fit_
from tasks.training.scratch import scratch_of


def teacher(params: Teacher, seed: int, files: Files) -> dict[str, float]:
    """Train, save and export the teacher; `checkpoint` gives the weights to start from (with epochs 0, to keep)."""
    data = load_splits(files.reads)
    folder = files.writes["teacher"]
    model = checkpoint.build(params.model, data.card, moments(data.train), seed, "teacher.model")
    if params.checkpoint:
        state = checkpoint.read_weights(Path(params.checkpoint))
        checkpoint.fit_weights_(model.model, state, f"teacher.checkpoint {params.checkpoint}")
    scratch = scratch_of(files.scratch, "teacher", data.card.sha256)
    history = fit_(model, data.train, data.validation, params.train, seed=seed, series="teacher", scratch=scratch)
    checkpoint.save(model, data.card, folder, parent=None)
    write_curves(history, folder / "training.csv")
    export(model, data.card, data.validation, folder, "teacher.model")
    return {
        "accuracy": accuracy(model, data.validation),
        "macs": macs(model, data.card.input_shape),
        "parameters": parameters(model),
        **({"loss": history[-1].loss} if history else {}),
    }
