"""What a teacher is worth to three sizes of student on Fashion-MNIST: loss by student, several seeds.

    python benchmarks/distillation.py [--seeds 3] [--students 10x 40x 150x] [--methods ...] [--teacher-epochs 24]

Every row is kept as soon as it is measured, so a run that was stopped goes on; cells of the results of which no row is
on disk stay as they are. Choices are made on the validation split; the accuracies are of the test split.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import fashion

from tasks import checkpoint
from tasks.data.splits import Splits, moments
from tasks.distill.students import build_student, same_shape_fresh
from tasks.measure.accuracy import accuracy
from tasks.measure.size import macs, parameters
from tasks.models.normalised import Normalised
from tasks.params import Answers, Augment, Clean, Factory, Kd, Loss, PrunedTeacher, Student, Train, Views
from tasks.params.criterion import Taylor
from tasks.params.prune import Sensitivity
from tasks.params.students import StudentTarget
from tasks.params.training import Dist, Dkd, KdStandardised, Mse, Rkd, Sp
from tasks.training.loop import fit_
from tasks.training.objective import Objective
from tasks.training.scratch import Scratch
from tasks.training.state import Lesson
from tasks.training.teachers import ask

SHIFTED: Final = Augment(shift=2, flip=True)
EPOCHS: Final = 20
LEARNED: Final = 10_000  # training samples, unaugmented, by which to see whether a student has room to learn more
TRAIN: Final = Train(epochs=EPOCHS, batch_size=256, lr=0.01, ema=0.95, augment=SHIFTED)


def cnn(channels: list[int], strides: list[int], **args: Any) -> Factory:
    """A plain network with fewer MACs than the teacher."""
    return Factory(factory="tasks.models.cnn:CNN", args={"channels": channels, "strides": strides, **args})


def cut(share: float, round_to: int) -> PrunedTeacher:
    """The teacher, cut to a share of its MACs."""
    ratios = Sensitivity(ratios=(0.5, 0.75, 0.9, 0.95, 0.98))  # the default's 0.9 at most leave 6 % of the MACs
    target = StudentTarget(macs=share)
    return PrunedTeacher(method="pruned_teacher", target=target, round_to=round_to, sensitivity=ratios)


def cut_dense(share: float) -> PrunedTeacher:
    """The next larger dense network that has been taught, cut to a share of its MACs."""
    return PrunedTeacher(
        method="pruned_teacher",
        origin="assistant",
        target=StudentTarget(macs=share),
        criterion=Taylor(method="taylor"),
        scope="global",
        compensate=True,
        round_to=2,
    )


ASSISTANT: Final = "3x"
LARGER: Final = {"10x": ASSISTANT, "40x": "10x", "150x": "40x"}
STUDENTS: Final[dict[str, dict[str, Student]]] = {
    ASSISTANT: {"dense": cnn([40, 80], [2, 2], hidden=[1024])},
    "10x": {"plain": cnn([20, 22, 44, 84], [2, 1, 2, 2]), "cut": cut(0.1, 4), "dense": cut_dense(0.33)},
    "40x": {"plain": cnn([14, 28, 60], [2, 2, 2]), "cut": cut(0.025, 2), "dense": cut_dense(0.25)},
    "150x": {"plain": cnn([8, 15, 28], [2, 2, 2]), "cut": cut(0.0067, 1), "dense": cut_dense(0.265)},
}


CELL: Final = ("student", "shape", "method")


@dataclass(frozen=True)
class Method:
    """How a student is trained; no losses: alone."""

    losses: tuple[Loss, ...] = ()
    target_weight: float = 1.0
    answers: Answers = field(default_factory=lambda: Clean(mode="clean"))
    train: Train = TRAIN


def longer(times: int) -> Train:
    """The same recipe with more epochs."""
    return TRAIN.model_copy(update={"epochs": times * EPOCHS})


DIST: Final = (Dist(method="dist", temperature=2.0, weight=2.0),)
METHODS: Final[dict[str, Method]] = {
    "alone": Method(),
    "alone, smoothed": Method(train=TRAIN.model_copy(update={"label_smoothing": 0.1})),
    "alone, unaugmented": Method(train=TRAIN.model_copy(update={"augment": Augment()})),
    "alone, twice as long": Method(train=longer(2)),
    "alone, four times as long": Method(train=longer(4)),
    "alone, five times as long": Method(train=longer(5)),
    "kd T4": Method((Kd(method="kd"),), 0.1),
    "kd T2": Method((Kd(method="kd", temperature=2.0),), 0.1),
    "kd_standardised": Method((KdStandardised(method="kd_standardised"),), 0.1),
    "dkd": Method((Dkd(method="dkd"),)),
    "sp": Method((Sp(method="sp"),)),
    "rkd": Method((Rkd(method="rkd"),)),
    "dist": Method(DIST),
    "dist, five times as long": Method(DIST, train=longer(5)),
    "dist, 8 views": Method(DIST, answers=Views(mode="views", count=8)),
    "mse, 8 views": Method((Mse(method="mse"),), 0.1, answers=Views(mode="views", count=8)),
    "kd T1, 8 views": Method(
        (Kd(method="kd", temperature=1.0, weight=1.0),), 0.0, answers=Views(mode="views", count=8)
    ),
}
TAUGHT: Final = "dist"  # how a dense network learns from which the next is cut
DENSE: Final = (TAUGHT, "alone", "alone, twice as long", "alone, four times as long")
WAYS: Final[dict[str, Iterable[str]]] = {"plain": METHODS, "cut": METHODS, "dense": DENSE}


def main() -> None:
    """Measure what is missing, print the table, write results/distillation.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--students", nargs="*", default=list(LARGER))
    parser.add_argument("--shapes", nargs="*", default=list(WAYS))
    parser.add_argument("--methods", nargs="*", help="all that a shape is for, if none are named")
    parser.add_argument("--teacher-epochs", type=int, help="as many as in params.fashion.yaml, if not given")
    options = parser.parse_args()
    splits = fashion.data()
    teacher, facts = fashion.teacher(splits, options.teacher_epochs)
    for seed in range(options.seeds):
        for size in options.students:
            for shape in options.shapes:
                for name in options.methods or WAYS[shape]:
                    row = measured(splits, teacher, facts, size, shape, name, seed)
                    print({key: row[key] for key in ("student", "shape", "method", "seed", "accuracy", "validation")})
    summarise(facts)


def measured(
    splits: Splits, teacher: Normalised, facts: dict[str, Any], size: str, shape: str, name: str, seed: int
) -> dict[str, Any]:
    """The row, from disk where it has been measured."""
    method, student = METHODS[name], STUDENTS[size][shape]
    recipe = _recipe(facts, size, shape, name, seed)
    path = _path(size, shape, name, seed)
    if path.is_file() and (row := json.loads(path.read_text()))["recipe"] == recipe:
        return dict(row)
    cut_from = teacher
    if shape == "dense" and size in LARGER:
        cut_from = taught(splits, teacher, facts, LARGER[size], seed)
    model = start(splits, cut_from, student, method, seed)
    begun = time.process_time()
    _fit_(model, splits, teacher, method, seed)
    row = {
        "student": size,
        "shape": shape,
        "method": name,
        "seed": seed,
        "macs": macs(model, splits.card.input_shape),
        "parameters": parameters(model),
        "accuracy": accuracy(model, splits.test),
        "validation": accuracy(model, splits.validation),
        "training": accuracy(model, splits.train.first(LEARNED, 0)),
        "cpu_s": round(time.process_time() - begun, 1),
        "cpu": fashion.environment()["cpu"],
        "teacher_accuracy": facts["accuracy"],
        "recipe": recipe,
    }
    path.parent.mkdir(exist_ok=True)
    if name == TAUGHT:
        checkpoint.save(model, splits.card, path.with_suffix(""), None)
    path.write_text(json.dumps(row))
    return row


def taught(splits: Splits, teacher: Normalised, facts: dict[str, Any], size: str, seed: int) -> Normalised:
    """A dense network after its lesson; all seeds begin with the same assistant."""
    seed = 0 if size == ASSISTANT else seed
    measured(splits, teacher, facts, size, "dense", TAUGHT, seed)
    return checkpoint.load(_path(size, "dense", TAUGHT, seed).with_suffix(""), splits.card)


def _fit_(model: Normalised, splits: Splits, teacher: Normalised, method: Method, seed: int) -> None:
    scratch, lesson = Scratch(fashion.WORK / "scratch", "bench", splits.card.sha256), None
    if method.losses:
        objective = Objective(method.losses, method.target_weight)
        answers = ask([teacher], splits.train, method.answers, objective, method.train, seed=0, scratch=scratch)
        lesson = Lesson(objective, answers)
    fit_(model, splits.train, splits.validation, method.train, seed=seed, series="student", lesson=lesson)


def _path(size: str, shape: str, name: str, seed: int) -> Path:
    return fashion.WORK / "distillation" / f"{size} {shape} {name} {seed}.json"


def _recipe(facts: dict[str, Any], size: str, shape: str, name: str, seed: int) -> str:
    """All that a row depends on; a row of another recipe is measured again, and not counted."""
    larger = ""
    if shape == "dense" and size in LARGER:
        larger = _recipe(facts, LARGER[size], shape, TAUGHT, seed)
    return f"{larger}{facts['recipe']} {STUDENTS[size][shape].model_dump_json()} {METHODS[name]} {seed}"


def start(splits: Splits, cut_from: Normalised, student: Student, method: Method, seed: int) -> Normalised:
    """Fresh weights by the seed; only a student that was cut from a network and is taught keeps that network's."""
    model = build_student(student, cut_from, splits.card, moments(splits.train), splits.validation, seed)
    alone = isinstance(student, PrunedTeacher) and not method.losses
    return same_shape_fresh(model, seed) if alone else model


def summarise(facts: dict[str, Any]) -> None:
    """Mean and spread of every cell, and the share of the gap that the best way closes."""
    found = [json.loads(path.read_text()) for path in sorted((fashion.WORK / "distillation").glob("*.json"))]
    keys = ("student", "shape", "method", "seed")
    rows = [row for row in found if row["recipe"] == _recipe(facts, *(row[key] for key in keys))]
    by_cell: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        by_cell.setdefault(tuple(row[key] for key in CELL), []).append(row)
    earlier = json.loads((fashion.ROOT / "benchmarks" / "results" / "distillation.json").read_text())
    table = [row for row in earlier["rows"] if "method" in row and tuple(row[key] for key in CELL) not in by_cell]
    table += [_cell(same) for same in by_cell.values()]
    for row in table:
        spread = f" ± {100 * row['accuracy_sd']:.2f}" if row["accuracy_sd"] is not None else ""
        print(*(row[key] for key in CELL), f"{100 * row['accuracy_mean']:.2f}{spread} ({row['seeds']} seeds)")
    closed = [gap for size in LARGER if (gap := gap_closed(table, size)) is not None]
    # not of the recipe, or taken up again: the teacher of the results before says how long the recipe takes
    teacher = {f"teacher_{key}": facts[key] for key in ("accuracy", "minutes", "cpu_minutes")}
    if facts["minutes"] is None:
        teacher = {key: earlier["headline"][key] for key in teacher}
    headline = {
        "gap_closed_mean": _mean(closed, "against_same_steps"),
        "gap_closed_mean_against_best_alone": _mean(closed, "against_best"),
        **teacher,
    }
    fashion.keep("distillation", sorted({row["seed"] for row in rows}), table + closed, headline)


def _cell(same: list[dict[str, Any]]) -> dict[str, Any]:
    """The rows that differ in their seed alone, as one."""
    values = [row["accuracy"] for row in same]
    return {
        **{key: same[0][key] for key in (*CELL, "macs", "parameters", "cpu", "teacher_accuracy")},
        "accuracies": values,
        "accuracy_mean": statistics.mean(values),
        "accuracy_sd": statistics.stdev(values) if len(values) > 1 else None,
        "validation_mean": statistics.mean(row["validation"] for row in same),
        "training_mean": statistics.mean(row["training"] for row in same),
        "seeds": len(values),
        "cpu_s": statistics.mean(row["cpu_s"] for row in same),
    }


def _mean(closed: list[dict[str, Any]], key: str) -> float | None:
    """Over all sizes of student, or nothing."""
    return statistics.mean(gap[key] for gap in closed) if len(closed) == len(LARGER) else None


def _epochs(row: dict[str, Any]) -> int:
    return METHODS[row["method"]].train.epochs


def gap_closed(table: list[dict[str, Any]], size: str) -> dict[str, Any] | None:
    """Of the way that validation likes best, against the best student alone of as many epochs, and of any."""
    own = [row for row in table if row["student"] == size]
    taught = [row for row in own if not row["method"].startswith("alone")]
    alone = [row for row in own if row["method"].startswith("alone")]
    if not taught:
        return None
    best = max(taught, key=lambda row: row["validation_mean"])
    as_long = _epochs(best)
    same = [row for row in alone if _epochs(row) == as_long]
    if not same:
        return None
    best_alone = max(alone, key=lambda row: row["validation_mean"])
    beside = max(same, key=lambda row: row["validation_mean"])

    def share(row: dict[str, Any]) -> float:
        return float((best["accuracy_mean"] - row["accuracy_mean"]) / (best["teacher_accuracy"] - row["accuracy_mean"]))

    return {
        "student": size,
        "best": f"{best['shape']}, {best['method']}",
        "best_alone": f"{best_alone['shape']}, {best_alone['method']}",
        "against_same_steps": share(beside),
        "against_best": share(best_alone),
    }


if __name__ == "__main__":
    main()
