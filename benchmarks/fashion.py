"""What the benchmarks on Fashion-MNIST share: data, the two networks of params.fashion.yaml, how results are kept."""

from __future__ import annotations

import json
import os
import platform
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import onnxruntime
import torch

from tasks import checkpoint
from tasks.data.splits import Splits, load_splits, moments
from tasks.evaluate.environment import processor
from tasks.measure.accuracy import accuracy
from tasks.models.normalised import Normalised
from tasks.params import load_params
from tasks.stages import run_stage
from tasks.training.loop import fit_
from tasks.training.scratch import Scratch

ROOT: Final = Path(__file__).parents[1]
WORK: Final = ROOT / "artifacts" / "bench" / "fashion"
RECIPE: Final = ROOT / "params.fashion.yaml"
STUDENT_EPOCHS: Final = 10


def data() -> Splits:
    """Ingested and split once, in a folder of its own; the whole training split."""
    WORK.mkdir(parents=True, exist_ok=True)
    (WORK / "data").mkdir(exist_ok=True)
    shutil.copyfile(RECIPE, WORK / "params.yaml")
    for stage, output in (("ingest", "data"), ("validate", "validation.json"), ("split", "split.npz")):
        if not (WORK / "artifacts" / output).exists():
            run_stage(stage, WORK)
    return load_splits({"data": WORK / "artifacts" / "data", "split": WORK / "artifacts" / "split.npz"})


def teacher(splits: Splits, epochs: int | None = None) -> tuple[Normalised, dict[str, Any]]:
    """The teacher as params.fashion.yaml trains it, with its test accuracy and the minutes it took; kept on disk.

    epochs: in place of the recipe's. The minutes are None there, and where a training was taken up again.
    """
    recipe, folder = load_params(RECIPE), WORK / "teacher"
    train = recipe.teacher.train if epochs is None else recipe.teacher.train.model_copy(update={"epochs": epochs})
    facts = folder / "facts.json"
    text = recipe.teacher.model_copy(update={"train": train}).model_dump_json()
    if facts.is_file() and (known := json.loads(facts.read_text()))["recipe"] == text:
        return checkpoint.load(folder, splits.card), known
    model = checkpoint.build(recipe.teacher.model, splits.card, moments(splits.train), recipe.seed, "teacher.model")
    scratch = Scratch(WORK / "scratch", "bench", splits.card.sha256)
    partly = epochs is not None or (scratch.folder / "trainings" / scratch.stage / "teacher.safetensors").is_file()
    wall, cpu = time.perf_counter(), time.process_time()
    fit_(
        model,
        splits.train,
        splits.validation,
        train,
        seed=recipe.seed,
        series="teacher",
        scratch=scratch,
    )
    known = {
        "recipe": text,
        "accuracy": accuracy(model, splits.test),
        "minutes": None if partly else (time.perf_counter() - wall) / 60,
        "cpu_minutes": None if partly else (time.process_time() - cpu) / 60,
    }
    checkpoint.save(model, splits.card, folder, None)
    facts.write_text(json.dumps(known, indent=2))
    return model, known


def student(splits: Splits) -> Normalised:
    """The student of params.fashion.yaml trained alone for fewer epochs, without a teacher; kept on disk."""
    recipe, folder = load_params(RECIPE), WORK / "student"
    if (folder / "whole").exists():
        return checkpoint.load(folder, splits.card)
    model = checkpoint.build(recipe.distill.model, splits.card, moments(splits.train), recipe.seed, "distill.model")
    train = recipe.distill.train.model_copy(update={"epochs": STUDENT_EPOCHS})
    scratch = Scratch(WORK / "scratch", "bench", splits.card.sha256)
    fit_(model, splits.train, splits.validation, train, seed=recipe.seed, series="student", scratch=scratch)
    checkpoint.save(model, splits.card, folder, None)
    (folder / "whole").touch()
    return model


def environment() -> dict[str, str]:
    """What a figure must carry."""
    return {
        "cpu": processor(),
        "threads": str(torch.get_num_threads()),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
    }


def keep(
    name: str, seeds: Sequence[int], rows: Sequence[Mapping[str, Any]], headline: Mapping[str, float | None]
) -> None:
    """Write benchmarks/results/NAME.json."""
    path = ROOT / "benchmarks" / "results" / f"{name}.json"
    whole = {"environment": environment(), "seeds": list(seeds), "rows": list(rows), "headline": dict(headline)}
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)
    print(json.dumps(headline, indent=2))
