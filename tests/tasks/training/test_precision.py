"""The precision that the clock chooses, and the compiled network."""

from copy import deepcopy
from functools import cache, partial

import pytest
import torch
from torch import nn
from toy import blobs, network, trained, weights, with_train

from tasks.params import Kd, Train
from tasks.params.training import Fitnet
from tasks.training import loop, precision
from tasks.training.loop import fit_
from tasks.training.objective import Objective
from tasks.training.scratch import Scratch
from tasks.training.state import Lesson
from tasks.training.teachers import LiveAnswers

DATA = blobs()


@pytest.fixture
def stopwatch(monkeypatch):
    """The seconds that a step takes, by precision; counts how often they are asked for."""
    seconds = {"float32": 1.0, "bfloat16": 0.5, "asked": 0}

    def measured(*_):
        seconds["asked"] += 1
        return seconds

    monkeypatch.setattr(precision, "_seconds", measured)
    monkeypatch.setattr(precision, "imitates_bfloat16", lambda: False)
    return seconds


AUTO = Train(epochs=2, batch_size=16, precision="auto")


@pytest.mark.parametrize(("taken", "chosen"), [(0.5, "bfloat16"), (0.97, "float32"), (2.0, "float32")])
def test_the_precision_is_chosen_by_the_clock(stopwatch, caplog, taken, chosen):
    caplog.set_level("INFO")
    stopwatch["bfloat16"] = taken
    one, two = (weights(trained(with_train(AUTO, precision=name))[0]) for name in ("float32", "bfloat16"))
    assert one != two
    assert weights(trained(AUTO)[0]) == {"float32": one, "bfloat16": two}[chosen]
    assert f"toy: trained in {chosen}, the faster precision here" in caplog.text


@pytest.fixture
def products(monkeypatch):
    """The seconds that a product of matrices takes, by precision."""
    seconds = {"float32": 1.0, "bfloat16": 60.0}
    monkeypatch.setattr(precision, "_shortest", lambda _: seconds)
    monkeypatch.setattr(precision, "imitates_bfloat16", cache(precision.imitates_bfloat16.__wrapped__))
    monkeypatch.setattr(loop, "imitates_bfloat16", precision.imitates_bfloat16)
    return seconds


def test_where_bfloat16_is_imitated_no_step_is_tried_in_it(products, monkeypatch):
    monkeypatch.setattr(precision, "_seconds", lambda *_: pytest.fail("a step was tried"))
    assert precision.faster_precision(network(), DATA, AUTO, None) == "float32"


@pytest.mark.parametrize(("taken", "warns"), [(60.0, True), (2.0, False)])
def test_bfloat16_that_would_take_for_ever_is_warned_of(products, caplog, taken, warns):
    products["bfloat16"] = taken
    trained(with_train(AUTO, precision="bfloat16"))
    warning = "toy: this processor only imitates bfloat16, which takes many times as long as float32; set train.precis"
    assert (warning in caplog.text) is warns


def test_a_choice_that_was_measured_stands(stopwatch, tmp_path):
    scratch = Scratch(tmp_path, "stage", "data")
    first = weights(trained(AUTO, scratch=scratch)[0])
    stopwatch["bfloat16"] = 2.0
    assert weights(trained(AUTO, scratch=scratch, seed=0)[0]) == first and stopwatch["asked"] == 1
    trained(with_train(AUTO, epochs=3), scratch=scratch, seed=1)
    assert stopwatch["asked"] == 1
    trained(with_train(AUTO, batch_size=20), scratch=scratch)
    assert stopwatch["asked"] == 2


def test_measuring_trains_nothing_and_leaves_the_global_generator_alone():
    model = nn.Sequential(network(), nn.Dropout(0.5))
    held, before = deepcopy(model.state_dict()), torch.random.get_rng_state()
    fit_(model, DATA, DATA, with_train(AUTO, epochs=0), seed=0, series="toy")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(tensor, held[name]) for name, tensor in model.state_dict().items())


@pytest.fixture
def compiled(monkeypatch):
    """torch.compile without its C++ compiler, which takes its time; lists what was compiled."""
    models, real = [], partial(torch.compile, backend="eager")

    def record(model):
        models.append(model)
        return real(model)

    monkeypatch.setattr(torch, "compile", record)
    return models


def live(losses):
    objective = Objective(losses, 0.1)
    return Lesson(objective, LiveAnswers([network(1, hidden=6)], objective.teacher_taps))


FITNET = Fitnet(method="fitnet", student="body", teacher="body", weight=1.0)


@pytest.mark.parametrize("losses", [None, [Kd(method="kd")]])
def test_a_compiled_network_trains_the_same(compiled, losses):
    plain, same = (
        trained(Train(epochs=3, batch_size=16, compile=compile), lesson=live(losses) if losses else None)
        for compile in (False, True)
    )
    assert compiled == [same[0]]
    assert [entry.loss for entry in same[1]] == pytest.approx([entry.loss for entry in plain[1]], rel=1e-5)


def test_a_network_that_a_loss_looks_into_is_not_compiled(compiled, caplog):
    plain, same = (
        trained(Train(epochs=2, batch_size=16, compile=compile), lesson=live([FITNET])) for compile in (False, True)
    )
    assert weights(plain[0]) == weights(same[0]) and compiled == []
    assert "toy: not compiled, as a loss reads its module 'body'" in caplog.text
