"""Which weights a training ends with: the mean of the last, the best, or the last."""

import pytest
import torch
from torch import nn
from toy import blobs, network, trained, weights, with_train

from tasks.measure.accuracy import accuracy
from tasks.params import Train
from tasks.training import loop
from tasks.training.average import Average
from tasks.training.loop import fit_

DATA = blobs()


def weights_before_each_step(train):
    seen, model = [], network()
    model.register_forward_pre_hook(
        lambda module, _: seen.append(module.head.weight.detach().clone()) if module.training else None
    )
    fit_(model, DATA, DATA, train, seed=0, series="toy")
    return [*seen, model.head.weight.detach()]


def test_ema_averages_every_fifth_step_and_has_a_short_memory_at_first():
    train = Train(epochs=10, batch_size=60)  # one step per epoch
    steps = weights_before_each_step(train)
    averaged, history = trained(with_train(train, ema=0.75))
    first = 1 / 10 * steps[0] + 9 / 10 * steps[5]
    torch.testing.assert_close(averaged.head.weight.detach(), 2 / 11 * first + 9 / 11 * steps[10])
    assert history[-1].validation_accuracy == accuracy(averaged, DATA)


def test_ema_of_a_training_shorter_than_five_steps_takes_every_one():
    train = Train(epochs=2, batch_size=60)
    steps = weights_before_each_step(train)
    averaged, _ = trained(with_train(train, ema=0.75))
    expected = 2 / 11 * (1 / 10 * steps[0] + 9 / 10 * steps[1]) + 9 / 11 * steps[2]
    torch.testing.assert_close(averaged.head.weight.detach(), expected)


def test_ema_has_its_own_decay_in_the_long_run():
    model = nn.Linear(1, 1, bias=False)
    average, expected = Average(model, 0.75), float(model.weight.detach())
    for step in range(1, 60):
        nn.init.constant_(model.weight, step % 7)
        average.update()
        decay = step / (step + 9) if step < 27 else 0.75
        expected = decay * expected + (1 - decay) * (step % 7)
    assert float(average.mean["weight"]) == pytest.approx(expected, rel=1e-5)


def scripted(monkeypatch, accuracies):
    """Let the epochs have these accuracies; returns the weights that were measured."""
    measured, left = [], iter(accuracies)

    def score(model, *_):
        measured.append([(name, tensor.numpy().tobytes()) for name, tensor in model.state_dict().items()])
        return next(left)

    monkeypatch.setattr(loop, "score", score)
    return measured


@pytest.mark.parametrize("ema", [None, 0.9])
def test_patience_stops_and_keeps_the_best_epoch(monkeypatch, ema):
    measured = scripted(monkeypatch, [0.5, 0.7, 0.6, 0.65, 0.7, 0.9])  # as good is no better
    model, history = trained(Train(epochs=6, batch_size=16, patience=3, ema=ema))
    assert [entry.validation_accuracy for entry in history] == [0.5, 0.7, 0.6, 0.65, 0.7]
    assert weights(model) == measured[1]


def test_patience_waits_as_long_as_asked_and_the_last_epoch_may_be_the_best(monkeypatch):
    measured = scripted(monkeypatch, [0.6, 0.5, 0.4, 0.7, 0.5, 0.8])
    model, history = trained(Train(epochs=6, batch_size=16, patience=3))
    assert len(history) == 6 and weights(model) == measured[5]


def test_patience_keeps_the_first_epoch_however_low_its_score(monkeypatch):
    measured = scripted(monkeypatch, [-3.0, -7.0])
    model, _ = trained(Train(epochs=6, batch_size=16, patience=1))
    assert weights(model) == measured[0]


def test_without_patience_the_last_epoch_stays(monkeypatch):
    measured = scripted(monkeypatch, [0.9, 0.5, 0.4])
    model, history = trained()
    assert len(history) == 3 and weights(model) == measured[2]
