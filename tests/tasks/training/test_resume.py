"""A training that was stopped goes on and ends with the very bytes of one that was not."""

import signal
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from projects import ROOT
from torch import nn
from toy import blobs, network, pictures, weights

from tasks.data.batches import Samples
from tasks.models.cnn import CNN
from tasks.params import Augment, Clean, Dkd, Kd, Live, Train, Views
from tasks.params.training import Fitnet, Mutual
from tasks.training import loop, scratch
from tasks.training.loop import fit_
from tasks.training.objective import Objective
from tasks.training.scratch import Scratch
from tasks.training.state import Lesson
from tasks.training.teachers import PeerAnswers, ask

EPOCHS = 5
TABLE, IMAGES = blobs(), pictures(36)


def dropping():
    return nn.Sequential(network(), nn.Dropout(0.3))


def tied():
    """The same layer twice."""
    torch.manual_seed(0)
    shared = nn.Linear(8, 8)
    return nn.Sequential(nn.Linear(4, 8), shared, nn.ReLU(), shared, nn.Linear(8, 3))


def convolutions(seed=0):
    torch.manual_seed(seed)
    return CNN((1, 8, 8), 3, channels=(4, 6), strides=(2, 1))


@dataclass(frozen=True)
class Case:
    """A training, always from the same weights."""

    make: object = network
    data: Samples = TABLE
    losses: tuple = ()
    answers: object = None
    teacher: object = None
    knobs: tuple = ()
    keep: bool = False

    def run(self, scratch=None, seed=0, series="toy", validation=None, **changes):
        model = self.make()
        train = Train(**{"epochs": EPOCHS, "batch_size": 16, **dict(self.knobs), **changes})
        keep, lesson = None, None
        if self.losses:
            objective = Objective(self.losses, 0.1)
            teachers = [(self.teacher or network)(1)]
            lesson = Lesson(objective, self.told(teachers, objective, train, scratch))
        if self.keep:
            keep = {"body.1.weight": torch.rand(8, 4, generator=torch.Generator().manual_seed(0)) > 0.5}
        history = fit_(
            *(model, self.data, validation or self.data, train),
            **{"seed": seed, "series": series, "lesson": lesson, "keep": keep, "scratch": scratch},
        )
        return weights(model), history

    def told(self, teachers, objective, train, scratch):
        if self.answers is None:
            return PeerAnswers(teachers[0])
        return ask(teachers, self.data, self.answers, objective, train, seed=0, scratch=scratch)


FITNET = Fitnet(method="fitnet", student="body", teacher="body", weight=1.0)
KD = Kd(method="kd")
EVERYTHING = Augment(shift=1, flip=True, cutout=2, cutmix=1.0, mixup=0.5)
CASES = {
    "adamw": Case(),
    "sgd": Case(knobs=(("optimizer", "sgd"), ("clip_norm", 1.0))),
    "ema": Case(knobs=(("ema", 0.9),)),
    "patience": Case(knobs=(("patience", 1), ("lr", 0.1))),
    "patience and ema": Case(knobs=(("patience", 3), ("ema", 0.9), ("balance", True))),
    "mixup and dropout": Case(make=dropping, knobs=(("augment", Augment(mixup=0.5)),)),
    "tied": Case(make=tied, knobs=(("ema", 0.9),)),
    "masks": Case(keep=True, knobs=(("optimizer", "sgd"), ("ema", 0.5))),
    "images": Case(make=convolutions, data=IMAGES, knobs=(("augment", EVERYTHING), ("ema", 0.9), ("patience", 4))),
    "bfloat16": Case(make=convolutions, data=IMAGES, knobs=(("precision", "bfloat16"), ("schedule", "cosine"))),
    "fitnet": Case(losses=(KD, FITNET), answers=Live(mode="live"), teacher=lambda seed: network(seed, hidden=6)),
    "kept answers": Case(losses=(KD,), answers=Clean(mode="clean"), knobs=(("optimizer", "sgd"),)),
    "warm-up": Case(losses=(Dkd(method="dkd", warmup_epochs=3),), answers=Clean(mode="clean")),
    "peer": Case(losses=(Mutual(method="mutual"),), teacher=lambda seed: nn.Sequential(network(seed), nn.Dropout(0.3))),
    "views": Case(
        make=convolutions,
        data=IMAGES,
        losses=(KD,),
        answers=Views(mode="views", count=2),
        teacher=convolutions,
        knobs=(("augment", Augment(shift=1, flip=True)),),
    ),
}


class Stopped(Exception):
    """As if the process had been killed."""


@pytest.fixture
def epochs(monkeypatch):
    """Counts epochs as they are trained; `stop` says in front of the measuring of which to fail."""
    real, counted = loop._judge_, {"trained": 0, "stop": None}

    def judge(state, *arguments):
        counted["trained"] += 1
        if state.epoch == counted["stop"]:
            raise Stopped
        real(state, *arguments)

    monkeypatch.setattr(loop, "_judge_", judge)
    return counted


def kept_in(folder, identity="data"):
    return Scratch(folder, "stage", identity)


def file_in(folder):
    return folder / "trainings" / "stage" / "toy.safetensors"


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_stopped_after_any_epoch_it_ends_with_the_same_bytes_and_history(tmp_path, epochs, case):
    unbroken = case.run()
    for done in range(1, len(unbroken[1])):
        folder = tmp_path / str(done)
        epochs["stop"] = done
        with pytest.raises(Stopped):
            case.run(kept_in(folder))
        epochs.update(stop=None, trained=0)
        assert case.run(kept_in(folder)) == unbroken
        assert epochs["trained"] == len(unbroken[1]) - done


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_stopped_after_every_epoch_it_ends_with_the_same_bytes_and_history(tmp_path, epochs, case):
    unbroken = case.run()
    for done in range(1, len(unbroken[1])):
        epochs["stop"] = done
        with pytest.raises(Stopped):
            case.run(kept_in(tmp_path))
    epochs["stop"] = None
    assert case.run(kept_in(tmp_path)) == unbroken


def test_the_cases_are_what_they_say():
    assert len(CASES["patience"].run()[1]) < EPOCHS
    results = [CASES[name].run()[0] for name in ("adamw", "sgd", "ema", "fitnet", "kept answers", "masks", "peer")]
    assert all(results.count(result) == 1 for result in results)


@pytest.mark.parametrize("case", [CASES["adamw"], CASES["ema"], CASES["patience"], CASES["fitnet"]])
def test_a_finished_training_is_not_trained_again(tmp_path, epochs, case):
    first = case.run(kept_in(tmp_path))
    epochs["trained"] = 0
    assert case.run(kept_in(tmp_path)) == first and epochs["trained"] == 0


def test_an_epoch_that_a_logging_handler_spoils_is_done_again(tmp_path, epochs, monkeypatch):
    unbroken = CASES["adamw"].run()

    def fail(message, *arguments, extra):
        if extra["step"] == 3:
            raise Stopped

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(loop.log, "info", fail)
        CASES["adamw"].run(kept_in(tmp_path))
    epochs["trained"] = 0
    assert CASES["adamw"].run(kept_in(tmp_path)) == unbroken and epochs["trained"] == EPOCHS - 2


BASE = CASES["adamw"]
TAUGHT = CASES["kept answers"]
OTHERS = {
    "seed": (BASE, BASE, {"seed": 1}, {}),
    "lr": (BASE, BASE, {"lr": 0.02}, {}),
    "epochs": (BASE, BASE, {"epochs": 7}, {}),
    "augment": (BASE, BASE, {"augment": Augment(mixup=0.2)}, {}),
    "data": (BASE, BASE, {}, {"identity": "other data"}),
    "samples": (BASE, Case(data=Samples(TABLE.x, TABLE.y, TABLE.indices[::-1].copy())), {}, {}),
    "weights of samples": (BASE, Case(data=Samples(TABLE.x, TABLE.y, TABLE.indices, np.arange(1, 61.0))), {}, {}),
    "validation": (BASE, BASE, {"validation": TABLE.first(20, 0)}, {}),
    "initial weights": (BASE, Case(make=lambda: network(3)), {}, {}),
    "dropout": (Case(make=dropping), Case(make=lambda: nn.Sequential(network(), nn.Dropout(0.6))), {}, {}),
    "masks": (BASE, CASES["masks"], {"optimizer": "adamw", "ema": None}, {}),
    "teacher": (TAUGHT, Case(losses=(KD,), answers=TAUGHT.answers, teacher=lambda _: network(5)), {}, {}),
    "live teacher": (
        Case(losses=(KD,), answers=Live(mode="live")),
        Case(losses=(KD,), answers=Live(mode="live"), teacher=lambda _: network(5)),
        {},
        {},
    ),
    "peer": (CASES["peer"], Case(losses=CASES["peer"].losses, teacher=lambda _: network(5)), {}, {}),
    "answers": (TAUGHT, Case(losses=(KD,), answers=Live(mode="live"), knobs=TAUGHT.knobs), {}, {}),
    "losses": (TAUGHT, Case(losses=(Kd(method="kd", weight=0.5),), answers=TAUGHT.answers), {}, {}),
    "smoothing": (TAUGHT, TAUGHT, {"label_smoothing": 0.1}, {}),
    "warm-up": (CASES["warm-up"], Case(losses=(Dkd(method="dkd"),), answers=TAUGHT.answers), {}, {}),
    "no teacher": (TAUGHT, BASE, {"optimizer": "sgd"}, {}),
}


@pytest.mark.parametrize(("first", "second", "run", "where"), OTHERS.values(), ids=OTHERS)
def test_another_training_does_not_take_up_this_one(tmp_path, epochs, first, second, run, where):
    first.run(kept_in(tmp_path))
    epochs["trained"] = 0
    found = second.run(kept_in(tmp_path, **where), **run)
    assert epochs["trained"] == len(found[1])
    assert found == second.run(**run)


def test_other_code_does_not_take_up_this_training(tmp_path, epochs, monkeypatch):
    BASE.run(kept_in(tmp_path))
    monkeypatch.setattr(scratch, "_code", lambda: b"changed")
    epochs["trained"] = 0
    BASE.run(kept_in(tmp_path))
    assert epochs["trained"] == EPOCHS


def test_two_series_do_not_disturb_each_other(tmp_path):
    one, two = (BASE.run(kept_in(tmp_path), series=name) for name in ("probe kd T2 3", "probe kd T4 3"))
    assert one[0] == two[0] and one[1][0].series == "probe kd T2 3"
    names = {path.name for path in (tmp_path / "trainings/stage").iterdir()}
    assert names == {"probe_kd_T2_3.safetensors", "probe_kd_T4_3.safetensors"}


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def header_only(path):
    path.write_bytes(path.read_bytes()[:40])


def empty(path):
    path.write_bytes(b"")


def noise(path):
    path.write_bytes(bytes(range(256)) * 20)


def foreign(path):
    scratch.save_file({"x": torch.zeros(2)}, path)


def no_json(path):
    scratch.save_file({"x": torch.zeros(2)}, path, {"facts": "{not json"})


@pytest.mark.parametrize("damage", [cut, header_only, empty, noise, foreign, no_json])
def test_a_damaged_file_is_ignored_and_replaced(tmp_path, epochs, damage):
    first = BASE.run(kept_in(tmp_path))
    damage(file_in(tmp_path))
    epochs["trained"] = 0
    assert BASE.run(kept_in(tmp_path)) == first and epochs["trained"] == EPOCHS
    assert BASE.run(kept_in(tmp_path)) == first and epochs["trained"] == EPOCHS


MORTAL = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = [{root!r}, {tests!r}]
import toy
from tasks.params import Augment, Train
from tasks.training.loop import fit_
from tasks.training.scratch import Scratch

model, batches = toy.network(), []

def die(module, inputs):
    batches.append(module.training)
    if sum(batches) == 8:  # of three an epoch
        os.kill(os.getpid(), signal.SIGKILL)

model.body[1].register_forward_pre_hook(die)
data = toy.blobs()
train = Train(epochs=5, batch_size=16, ema=0.9, patience=4, augment=Augment(mixup=0.5))
fit_(model, data, data, train, seed=0, series="toy", scratch=Scratch(Path({folder!r}), "stage", "data"))
"""


def test_a_process_killed_in_the_middle_of_an_epoch_is_taken_up_by_the_next(tmp_path, epochs):
    script = MORTAL.format(root=str(ROOT), tests=str(ROOT / "tests"), folder=str(tmp_path))
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -signal.SIGKILL
    case = Case(knobs=(("ema", 0.9), ("patience", 4), ("augment", Augment(mixup=0.5))))
    unbroken = case.run()
    epochs["trained"] = 0
    assert case.run(kept_in(tmp_path)) == unbroken and epochs["trained"] == EPOCHS - 2
