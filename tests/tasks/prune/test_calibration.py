import numpy as np
import pytest
import torch
from torch import nn
from toy import pictures, stirred, weights

from tasks.data.batches import Samples
from tasks.models.cnn import CNN
from tasks.prune.calibration import recalibrate_

SAMPLES = pictures(300)


def network():
    return stirred(
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 3))
    )


def test_statistics_are_the_average_over_whole_batches():
    model = network()
    recalibrate_(model, SAMPLES)
    made = [model[0](SAMPLES.inputs(slice(start, start + 128))).transpose(0, 1).flatten(1) for start in (0, 128)]
    torch.testing.assert_close(model[1].running_mean, sum(part.mean(1) for part in made) / 2)
    torch.testing.assert_close(model[1].running_var, sum(part.var(1) for part in made) / 2)


def test_it_repeats_whatever_the_statistics_were_and_touches_nothing_else():
    model, other = network(), network()
    with torch.no_grad():
        other[1].running_mean.add_(3)
    before = [tensor.clone() for tensor in model.parameters()]
    for each in (model, other):
        recalibrate_(each, SAMPLES)
    assert weights(model) == weights(other)  # dropout, too, drew nothing
    assert all(torch.equal(now, then) for now, then in zip(model.parameters(), before, strict=True))
    assert model[1].momentum == 0.1 and not model.training and not model[1].training


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_stays(training):
    model = CNN((1, 8, 8), 3, (4,), (2,)).train(training)
    recalibrate_(model, SAMPLES)
    assert model.training is training and model.body[0][1].training is training


@pytest.mark.parametrize("samples", [pictures(1), Samples(SAMPLES.x, SAMPLES.y, np.arange(0))])
def test_too_few_samples_leave_it_as_it_is(samples):
    model = network()
    before = weights(model)
    recalibrate_(model, samples)
    assert weights(model) == before


def test_a_model_without_batchnorm_is_left_alone():
    model = nn.Linear(4, 3)
    before = weights(model)
    recalibrate_(model, SAMPLES)
    assert weights(model) == before
