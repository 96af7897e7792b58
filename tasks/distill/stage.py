"""distill: train the student towards the teacher, and the same student alone, its baseline."""

from __future__ import annotations

import json
import logging
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from math import ceil
from pathlib import Path

from tasks import checkpoint
from tasks.data.splits import Splits, load_splits, moments
from tasks.distill.comparison import Labels, compare
from tasks.distill.probe import ALONE, Candidate, Trial, choose
from tasks.distill.rehearsal import rehearse
from tasks.distill.students import build_student, same_shape_fresh, student_table
from tasks.export.onnx import export
from tasks.files import Files
from tasks.measure.accuracy import logits
from tasks.measure.size import macs, parameters
from tasks.models.normalised import Normalised
from tasks.params import Distill, PrunedTeacher, Train
from tasks.training.curves import write_curves
from tasks.training.distributed import several
from tasks.training.loop import fit_
from tasks.training.objective import Objective
from tasks.training.scratch import Scratch, scratch_of
from tasks.training.state import Epoch, Lesson
from tasks.training.teachers import PeerAnswers, TeacherAnswers, ask

log = logging.getLogger(__name__)


Trained = tuple[Normalised, list[Epoch]]


@dataclass(frozen=True)
class _Room:
    """What all trainings of this stage share."""

    params: Distill
    data: Splits
    teachers: list[Normalised]
    scratch: Scratch | None


def distill(params: Distill, seed: int, files: Files) -> dict[str, float]:
    """Pairs of trainings on the same samples for the same epochs, with the teacher and without."""
    data = load_splits(files.reads)
    teachers = [checkpoint.load(folder, data.card) for folder in (files.reads["teacher"], *map(Path, params.teachers))]
    room = _Room(params, data, teachers, scratch_of(files.scratch, "distill", data.card.sha256))
    assistant = _assistant(room, seed)
    start = _start(room, assistant, seed)
    _show_costs(teachers[0], assistant, start, data)
    rehearse(params, start, teachers[0], assistant, data.card.input_shape)
    candidate, trials = _candidate(room, start, seed)
    taught_in = room
    if params.assistant and assistant and (candidate.losses or params.cuts_assistant):
        _train(room, assistant, candidate, params.assistant.train, seed, "assistant")
        taught_in = replace(room, teachers=[assistant]) if params.assistant.teaches else room
    if params.cuts_assistant:  # until now it stood for what the trained assistant leaves
        start = _start(room, assistant, seed)
        _show_costs(teachers[0], assistant, start, data)
    pairs = []
    for number in range(params.seeds):
        own = _start(room, assistant, seed + number) if number else start
        alone, student = _pair(taught_in, own, candidate, seed + number, f"_seed_{number}" if number else "")
        if not number:
            _write(alone, data, files.writes["student_alone"], parent=None)
            _write(student, data, files.writes["student"], parent="teacher")
        pairs.append((_labels(alone[0], data), _labels(student[0], data)))
    targets = data.validation.targets(slice(None)).numpy()
    alones, students = zip(*pairs, strict=True)
    found = compare(
        *(targets, _labels(teachers[0], data), alones, students, data.card.classes),
        taught=bool(candidate.losses),
        inherited=isinstance(params.model, PrunedTeacher),
    )
    log.info("distill: %s", found.sentence())
    _write_comparison(files.writes["student"] / "comparison.json", found.facts(), candidate, trials)
    return {
        "accuracy": float((students[0] == targets).mean()),
        "accuracy_alone": float((alones[0] == targets).mean()),
        "accuracy_teacher": found.accuracy_teacher,
        "gain": found.gain,
        **({"gap_closed": found.gap_closed} if found.gap_closed is not None else {}),
        "agreement": found.agreement,
        "helped": float(found.helped),
        "macs": macs(start, data.card.input_shape),
        "parameters": parameters(start),
    }


def _show_costs(teacher: Normalised, assistant: Normalised | None, student: Normalised, data: Splits) -> None:
    between = [("assistant", assistant)] if assistant else []
    rows = [("teacher", teacher), *between, ("student", student)]
    log.info("%s", student_table(rows, data.card.input_shape))


def _start(room: _Room, assistant: Normalised | None, seed: int) -> Normalised:
    data, model = room.data, room.params.model
    if several() and isinstance(model, PrunedTeacher) and model.target.latency is not None:
        raise ValueError("distill.model.target.latency is measured by each process anew; give macs or parameters")
    origin = assistant if assistant and room.params.cuts_assistant else room.teachers[0]
    return build_student(model, origin, data.card, moments(data.train), data.validation, seed)


def _candidate(room: _Room, start: Normalised, seed: int) -> tuple[Candidate, list[Trial]]:
    """What the student learns from: as params say, or as the probe finds."""
    params = room.params
    if params.losses != "auto":
        return Candidate("params", params.losses, params.target_weight), []

    def score(candidate: Candidate, epochs: int) -> float:
        # all the way, so that the last accuracy is that of the weights, and all are as long
        train = params.train.model_copy(update={"epochs": epochs, "patience": None})
        series = f"probe {candidate.name} {epochs}"
        return _train(room, deepcopy(start), candidate, train, seed, series)[-1].validation_accuracy

    chosen, trials = choose(ceil(params.probe.share * params.train.epochs), score)
    log.info("distill: the probe chose %s", chosen.name)
    return chosen, trials


def _pair(room: _Room, start: Normalised, candidate: Candidate, seed: int, suffix: str) -> tuple[Trained, Trained]:
    """The student alone, from weights of its own, and the student, from the same ones or from the teacher's."""
    inherits = isinstance(room.params.model, PrunedTeacher)
    alone = same_shape_fresh(start, seed) if inherits else deepcopy(start)
    student = deepcopy(start)
    history_alone = _train(room, alone, ALONE, room.params.train, seed, f"student_alone{suffix}")
    history = _train(room, student, candidate, room.params.train, seed, f"student{suffix}")
    for generation in range(2, room.params.generations + 1):
        room, student = replace(room, teachers=[student]), deepcopy(start)
        history += _train(room, student, candidate, room.params.train, seed, f"student_{generation}{suffix}")
    return (alone, history_alone), (student, history)


def _assistant(room: _Room, seed: int) -> Normalised | None:
    """A network between teacher and student in size, which is to learn first, and then teach; where there is one."""
    data, assistant = room.data, room.params.assistant
    if assistant is None:
        return None
    return checkpoint.build(assistant.model, data.card, moments(data.train), seed, "distill.assistant.model")


def _train(room: _Room, model: Normalised, candidate: Candidate, train: Train, seed: int, series: str) -> list[Epoch]:
    data, lesson = room.data, None
    if candidate.losses:
        objective = Objective(candidate.losses, candidate.target_weight)
        lesson = Lesson(objective, _answers(room, model, objective, train, seed))
    return fit_(
        model, data.coreset, data.validation, train, seed=seed, series=series, lesson=lesson, scratch=room.scratch
    )


def _answers(room: _Room, model: Normalised, objective: Objective, train: Train, seed: int) -> TeacherAnswers:
    """The teachers', or a peer's where the only loss is `mutual`."""
    if [loss.method for loss in objective.losses] == ["mutual"]:
        return PeerAnswers(same_shape_fresh(model, seed + 1))
    answers = room.params.answers
    return ask(room.teachers, room.data.coreset, answers, objective, train, seed=seed, scratch=room.scratch)


def _labels(model: Normalised, data: Splits) -> Labels:
    labels: Labels = logits(model, data.validation).argmax(1).numpy()
    return labels


def _write(trained: Trained, data: Splits, folder: Path, parent: str | None) -> None:
    model, history = trained
    checkpoint.save(model, data.card, folder, parent=parent)
    write_curves(history, folder / "training.csv")
    export(model, data.card, data.validation, folder, "distill.model")


def _write_comparison(path: Path, facts: dict[str, object], candidate: Candidate, trials: list[Trial]) -> None:
    losses = [loss.model_dump(mode="json") for loss in candidate.losses]
    chosen = {"name": candidate.name, "losses": losses, "target_weight": candidate.target_weight}
    whole = {**facts, "chosen": chosen, "probe": [asdict(trial) for trial in trials]}
    path.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
