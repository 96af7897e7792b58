"""What a teacher is worth to three sizes of student on Fashion-MNIST: loss by student, several seeds.

    python benchmarks/distillation.py [--seeds 3] [--students 10x 40x 150x] [--methods ...]

Every row is kept as soon as it is measured, so a run that was stopped goes on. Choices are made on the validation
split; the accuracies are of the test split.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import dataclass, field
from typing import Any, Final

import fashion

from tasks import checkpoint
from tasks.data.splits import Splits, moments
from tasks.distill.students import build_student, same_shape_fresh
from tasks.measure.accuracy import accuracy
from tasks.measure.size import macs, parameters
from tasks.models.normalised import Normalised
from tasks.params import Answers, Assistant, Augment, Clean, Factory, Kd, Loss, PrunedTeacher, Student, Train, Views
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
LONGER: Final = ", five times as long"
TEACHER_MACS: Final = 18_122_240
ASSISTANT_MACS: Final = 5_506_080
TRAIN: Final = Train(epochs=EPOCHS, batch_size=256, lr=0.01, ema=0.95, augment=SHIFTED)


def cnn(channels: list[int], strides: list[int]) -> Factory:
    """A plain network with fewer MACs than the teacher."""
    return Factory(factory="tasks.models.cnn:CNN", args={"channels": channels, "strides": strides})


def cut(share: float, round_to: int) -> PrunedTeacher:
    """The teacher, cut to a share of its MACs."""
    ratios = Sensitivity(ratios=(0.5, 0.75, 0.9, 0.95, 0.98))  # the default's 0.9 at most leave 6 % of the MACs
    target = StudentTarget(macs=share)
    return PrunedTeacher(method="pruned_teacher", target=target, round_to=round_to, sensitivity=ratios)


def dense(share: float) -> PrunedTeacher:
    """The assistant, cut to a share of the teacher's MACs."""
    return PrunedTeacher(
        method="pruned_teacher",
        origin="assistant",
        target=StudentTarget(macs=share * TEACHER_MACS / ASSISTANT_MACS),
        criterion=Taylor(method="taylor"),
        scope="global",
        compensate=True,
        round_to=2,
    )


STUDENTS: Final[dict[str, dict[str, Student]]] = {
    "10x": {"plain": cnn([20, 22, 44, 84], [2, 1, 2, 2]), "cut": cut(0.1, 4), "dense": dense(0.1)},
    "40x": {"plain": cnn([14, 28, 60], [2, 2, 2]), "cut": cut(0.025, 2), "dense": dense(0.025)},
    "150x": {"plain": cnn([8, 15, 28], [2, 2, 2]), "cut": cut(0.0067, 1), "dense": dense(0.0067)},
}


@dataclass(frozen=True)
class Method:
    """How a student is trained; no losses: alone."""

    losses: tuple[Loss, ...] = ()
    target_weight: float = 1.0
    answers: Answers = field(default_factory=lambda: Clean(mode="clean"))
    train: Train = TRAIN


DENSE: Final = TRAIN.model_copy(update={"epochs": 60, "precision": "bfloat16"})
ASSISTANT: Final = Assistant(
    model=Factory(factory="tasks.models.cnn:CNN", args={"channels": [40, 80], "strides": [2, 2], "hidden": [1024]}),
    train=DENSE.model_copy(update={"epochs": 40}),
    teaches=False,
)
DIST: Final = (Dist(method="dist", temperature=2.0, weight=2.0),)
METHODS: Final[dict[str, Method]] = {
    "alone": Method(),
    "alone, smoothed": Method(train=TRAIN.model_copy(update={"label_smoothing": 0.1})),
    "alone, unaugmented": Method(train=TRAIN.model_copy(update={"augment": Augment()})),
    "alone, twice as long": Method(train=TRAIN.model_copy(update={"epochs": 2 * EPOCHS})),
    "alone" + LONGER: Method(train=TRAIN.model_copy(update={"epochs": 5 * EPOCHS})),
    "kd T4": Method((Kd(method="kd"),), 0.1),
    "kd T2": Method((Kd(method="kd", temperature=2.0),), 0.1),
    "kd_standardised": Method((KdStandardised(method="kd_standardised"),), 0.1),
    "dkd": Method((Dkd(method="dkd"),)),
    "sp": Method((Sp(method="sp"),)),
    "rkd": Method((Rkd(method="rkd"),)),
    "dist": Method(DIST),
    "dist" + LONGER: Method(DIST, train=TRAIN.model_copy(update={"epochs": 5 * EPOCHS})),
    "alone, 60 epochs": Method(train=DENSE),
    "dist, 60 epochs": Method(DIST, train=DENSE),
    "alone, 100 epochs": Method(train=DENSE.model_copy(update={"epochs": 100})),  # the assistant's and the student's
    "dist, 8 views": Method(DIST, answers=Views(mode="views", count=8)),
    "mse, 8 views": Method((Mse(method="mse"),), 0.1, answers=Views(mode="views", count=8)),
    "kd T1, 8 views": Method(
        (Kd(method="kd", temperature=1.0, weight=1.0),), 0.0, answers=Views(mode="views", count=8)
    ),
}


def _methods(shape: str) -> list[str]:
    """Dense students are trained for as long as they gain by it, the others briefly."""
    return [name for name in METHODS if name.endswith(" epochs") == (shape == "dense")]


def assistant(splits: Splits, teacher: Normalised, facts: dict[str, Any]) -> Normalised:
    """A network of dense layers between the teacher and the smallest in MACs, taught by DIST; kept on disk."""
    folder = fashion.WORK / "assistant"
    recipe, kept = f"{facts['recipe']} {ASSISTANT.model_dump_json()} {DIST}", folder / "facts.json"
    if kept.is_file() and json.loads(kept.read_text())["recipe"] == recipe:
        return checkpoint.load(folder, splits.card)
    model = checkpoint.build(ASSISTANT.model, splits.card, moments(splits.train), 0, "assistant.model")
    begun = time.process_time()
    _fit_(model, splits, teacher, Method(DIST, train=ASSISTANT.train), 0, "assistant")
    found = {"recipe": recipe, "accuracy": accuracy(model, splits.test), "cpu_s": time.process_time() - begun}
    checkpoint.save(model, splits.card, folder, None)
    kept.write_text(json.dumps(found, indent=2))
    return model


def main() -> None:
    """Measure what is missing, print the table, write results/distillation.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--students", nargs="*", default=list(STUDENTS))
    parser.add_argument("--shapes", nargs="*", default=["plain", "cut", "dense"])
    parser.add_argument("--methods", nargs="*", help="all that a shape is for, if none are named")
    options = parser.parse_args()
    splits = fashion.data()
    teacher, facts = fashion.teacher(splits)
    for seed in range(options.seeds):
        for size in options.students:
            for shape in options.shapes:
                for name in options.methods or _methods(shape):
                    row = measured(splits, teacher, facts, size, shape, name, seed)
                    print({key: row[key] for key in ("student", "shape", "method", "seed", "accuracy", "validation")})
    summarise(facts)


def measured(
    splits: Splits, teacher: Normalised, facts: dict[str, Any], size: str, shape: str, name: str, seed: int
) -> dict[str, Any]:
    """The row, from disk where it has been measured."""
    method, student = METHODS[name], STUDENTS[size][shape]
    recipe = _recipe(facts, size, shape, name, seed)
    path = fashion.WORK / "distillation" / f"{size} {shape} {name} {seed}.json"
    if path.is_file() and (row := json.loads(path.read_text()))["recipe"] == recipe:
        return dict(row)
    cut_from = teacher
    if isinstance(student, PrunedTeacher) and student.origin == "assistant":
        cut_from = assistant(splits, teacher, facts)
    model = start(splits, cut_from, student, method, seed)
    begun = time.process_time()
    _fit_(model, splits, teacher, method, seed, "student")
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
        "recipe": recipe,
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(row))
    return row


def _fit_(model: Normalised, splits: Splits, teacher: Normalised, method: Method, seed: int, series: str) -> None:
    scratch, lesson = Scratch(fashion.WORK / "scratch", "bench", splits.card.sha256), None
    if method.losses:
        objective = Objective(method.losses, method.target_weight)
        answers = ask([teacher], splits.train, method.answers, objective, method.train, seed=0, scratch=scratch)
        lesson = Lesson(objective, answers)
    fit_(model, splits.train, splits.validation, method.train, seed=seed, series=series, lesson=lesson)


def _recipe(facts: dict[str, Any], size: str, shape: str, name: str, seed: int) -> str:
    """All that a row depends on; a row of another recipe is measured again, and not counted."""
    student = STUDENTS[size][shape]
    between = f"{ASSISTANT.model_dump_json()} " if shape == "dense" else ""
    return f"{facts['recipe']} {between}{student.model_dump_json()} {METHODS[name]} {seed}"


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
    cells: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        cells.setdefault((row["student"], row["shape"], row["method"]), []).append(row)
    table = []
    for (size, shape, name), same in cells.items():
        values = [row["accuracy"] for row in same]
        table.append(
            {
                "student": size,
                "shape": shape,
                "method": name,
                "accuracies": values,
                "accuracy_mean": statistics.mean(values),
                "accuracy_sd": statistics.stdev(values) if len(values) > 1 else None,
                "validation_mean": statistics.mean(row["validation"] for row in same),
                "training_mean": statistics.mean(row["training"] for row in same),
                "seeds": len(values),
                "macs": same[0]["macs"],
                "parameters": same[0]["parameters"],
                "cpu_s": statistics.mean(row["cpu_s"] for row in same),
            }
        )
        last = table[-1]
        spread = f" ± {100 * last['accuracy_sd']:.2f}" if last["accuracy_sd"] is not None else ""
        print(f"{size:5} {shape:6} {name:22} {100 * last['accuracy_mean']:.2f}{spread} ({last['seeds']} seeds)")
    closed = [gap for size in STUDENTS if (gap := gap_closed(table, size, facts["accuracy"])) is not None]
    headline = {
        "gap_closed_mean": _mean(closed, "against_same_steps"),
        "gap_closed_mean_against_best_alone": _mean(closed, "against_best"),
        "teacher_accuracy": facts["accuracy"],
        "teacher_minutes": facts["minutes"],
        "teacher_cpu_minutes": facts["cpu_minutes"],
    }
    fashion.keep("distillation", sorted({row["seed"] for row in rows}), table + closed, headline)


def _mean(closed: list[dict[str, Any]], key: str) -> float | None:
    """Over all sizes of student, or nothing."""
    return statistics.mean(gap[key] for gap in closed) if len(closed) == len(STUDENTS) else None


def gap_closed(table: list[dict[str, Any]], size: str, teacher: float) -> dict[str, Any] | None:
    """Of the way that validation likes best, against the best student alone of as many epochs, and of any."""
    own = [row for row in table if row["student"] == size]
    taught = [row for row in own if not row["method"].startswith("alone")]
    alone = [row for row in own if row["method"].startswith("alone")]
    if not taught:
        return None
    best = max(taught, key=lambda row: row["validation_mean"])
    as_long = METHODS[best["method"]].train.epochs
    same = [row for row in alone if METHODS[row["method"]].train.epochs == as_long]
    if not same:
        return None
    best_alone = max(alone, key=lambda row: row["validation_mean"])
    beside = max(same, key=lambda row: row["validation_mean"])

    def share(row: dict[str, Any]) -> float:
        return float((best["accuracy_mean"] - row["accuracy_mean"]) / (teacher - row["accuracy_mean"]))

    return {
        "student": size,
        "best": f"{best['shape']}, {best['method']}",
        "best_alone": f"{best_alone['shape']}, {best_alone['method']}",
        "against_same_steps": share(beside),
        "against_best": share(best_alone),
    }


if __name__ == "__main__":
    main()
