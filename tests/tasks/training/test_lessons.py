"""A training towards a teacher: what reaches the objective, in which epoch, in which precision."""

import numpy as np
import pytest
import torch
from toy import blobs, network, trained, weights, with_train

from tasks.data.batches import Samples
from tasks.params import Dkd, Kd, Train
from tasks.params.training import Fitnet, Mse, Mutual
from tasks.training import precision
from tasks.training.loop import fit_
from tasks.training.objective import Objective
from tasks.training.state import Lesson
from tasks.training.teachers import KeptAnswers, LiveAnswers, PeerAnswers

DATA = blobs()
STILL = Train(epochs=4, batch_size=60, optimizer="sgd", lr=1e-12)  # a network that stays as it is


def live(losses, target_weight=0.1):
    objective = Objective(losses, target_weight)
    return Lesson(objective, LiveAnswers([network(1, hidden=6)], objective.teacher_taps))


def peer():
    return Lesson(Objective([Mutual(method="mutual")], 1.0), PeerAnswers(network(1)))


def test_the_teachers_answers_arrive_beside_their_own_samples():
    order = np.random.default_rng(1).permutation(60)
    mine = Samples(DATA.x, DATA.y, order)
    answers = KeptAnswers(10 * np.eye(3, dtype=np.float16)[DATA.y[order]][None])
    batches = []

    class Watching(Objective):
        def forward(self, student, teacher, targets, **knobs):
            batches.append(bool((teacher.logits.argmax(1) == targets).all()))
            return super().forward(student, teacher, targets, **knobs)

    lesson = Lesson(Watching([Kd(method="kd")], 0.0), answers)
    fit_(network(), mine, DATA, Train(epochs=2, batch_size=16), seed=0, series="toy", lesson=lesson)
    assert batches == [True] * 6  # 60 samples give 3 whole batches of 16


def test_adapters_are_trained_along():
    def adapters(epochs):
        lesson = live([Fitnet(method="fitnet", student="body", teacher="body", weight=1.0)])
        trained(Train(epochs=epochs, batch_size=16), lesson=lesson)
        return [parameter.detach() for parameter in lesson.objective.parameters()]

    before, after = adapters(0), adapters(1)
    assert len(after) == 2 and not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_targets_are_smoothed_beside_a_teacher_as_they_are_alone(smoothing):
    train = with_train(STILL, label_smoothing=smoothing)
    lesson = live([Mse(method="mse", weight=1e-12)], target_weight=1.0)
    alone, taught = (trained(train, lesson=own)[1][0].loss for own in (None, lesson))
    assert taught == pytest.approx(alone, rel=1e-6)


def test_dkd_has_a_share_of_its_weight_in_each_epoch_of_its_warm_up():
    whole, rising = (
        [entry.loss for entry in trained(STILL, lesson=live([Dkd(method="dkd", warmup_epochs=epochs)], 0.0))[1]]
        for epochs in (0, 3)
    )
    assert rising == pytest.approx([share * whole[0] for share in (1 / 3, 2 / 3, 1, 1)], rel=1e-4)


@pytest.mark.parametrize("lesson", [lambda: live([Kd(method="kd")]), peer], ids=["teacher", "peer"])
@pytest.mark.parametrize("faster", ["float32", "bfloat16"])
def test_who_teaches_answers_in_the_precision_that_the_clock_chose(monkeypatch, lesson, faster):
    monkeypatch.setattr(precision, "imitates_bfloat16", lambda: False)
    monkeypatch.setattr(precision, "_seconds", lambda *_: {"float32": 1.0, "bfloat16": 1.0, faster: 0.5})
    found = []
    for name in ("auto", faster):
        teaching, seen = lesson(), []
        network = teaching.teacher.network or teaching.teacher.teachers[0]
        network.head.register_forward_hook(lambda module, inputs, output, seen=seen: seen.append(output.dtype))
        model, _ = trained(Train(epochs=2, batch_size=16, precision=name), lesson=teaching)
        assert seen == [torch.float32] + 6 * [getattr(torch, faster)]  # the first pass only shows the shapes
        found.append(weights(model))
    assert found[0] == found[1]
